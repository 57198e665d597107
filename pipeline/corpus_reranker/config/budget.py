"""Config section `budget`."""

from typing import Literal

from pydantic import Field, model_validator

from corpus_reranker.section import Section

_UNITS = ("windows", "tokens", "gpu_hours", "cost")


class BudgetConfig(Section):
    """A budget for the whole run, in one unit. Queries get windows in rounds until the budget is spent."""

    windows: int | None = Field(
        None,
        ge=1,
        description="Windows of all queries together, retries included. Retries of the last round may exceed it.",
    )
    tokens: int | None = Field(None, ge=1, description="Prompt and output tokens of all windows together.")
    gpu_hours: float | None = Field(
        None, gt=0, description="GPU-hours for which replicas hold their GPUs, engine starts included."
    )
    cost: float | None = Field(
        None,
        gt=0,
        description="Price of the tokens by engine.prices, or of the GPU-hours by report.price_per_gpu_hour, in "
        "report.currency.",
    )
    allocation: Literal["uniform", "uncertainty"] = Field(
        "uniform",
        description="uniform: the same number of windows for every query, to within one; other queries get the "
        "windows that a query does not need. uncertainty: first_windows for every query, then as many again for the "
        "queries with the lowest stability.",
    )
    first_windows: int | None = Field(
        None, ge=1, description="With allocation uncertainty: windows that a query gets in each of its rounds."
    )
    target_stability: float | None = Field(
        None, description="With allocation uncertainty: a query with this stability gets no further windows."
    )

    @property
    def unit(self) -> str:
        """The key that is set: windows, tokens, gpu_hours or cost."""
        return next(unit for unit in _UNITS if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        """The budget, in its unit."""
        amount: float = getattr(self, self.unit)
        return amount

    @model_validator(mode="after")
    def _one_unit(self) -> "BudgetConfig":
        if sum(getattr(self, unit) is not None for unit in _UNITS) != 1:
            raise ValueError(f"set exactly one of {', '.join(_UNITS)}")
        return self

    @model_validator(mode="after")
    def _keys_of_the_allocation(self) -> "BudgetConfig":
        if self.allocation == "uncertainty" and self.first_windows is None:
            raise ValueError("allocation uncertainty needs first_windows")
        if self.allocation == "uniform" and (self.first_windows, self.target_stability) != (None, None):
            raise ValueError("first_windows and target_stability need allocation uncertainty")
        return self
