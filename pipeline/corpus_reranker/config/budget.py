"""Config section `budget`."""

from typing import Literal

from pydantic import Field, model_validator

from corpus_reranker.section import Section


class BudgetConfig(Section):
    """A number of windows for the whole run. Queries get windows in rounds until the budget is spent."""

    windows: int = Field(
        ge=1, description="Windows of all queries together, retries included. Retries of the last round may exceed it."
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

    @model_validator(mode="after")
    def _keys_of_the_allocation(self) -> "BudgetConfig":
        if self.allocation == "uncertainty" and self.first_windows is None:
            raise ValueError("allocation uncertainty needs first_windows")
        if self.allocation == "uniform" and (self.first_windows, self.target_stability) != (None, None):
            raise ValueError("first_windows and target_stability need allocation uncertainty")
        return self
