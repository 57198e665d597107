"""The number of windows that the rounds of a budget may request so far.

A budget of windows is its own target. A budget of tokens, GPU-hours or cost pays for a number of windows that is known
only once some were requested. Its first target is one round of all queries. Each further target adds 90 % of what is
left of the budget, at the mean price of a window so far. A target is stored before its rounds begin, so a resumed run
continues the round in which it was stopped.
"""

import json

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.sinks.layout import budget_folder
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.spend import Spend
from corpus_reranker.io.storage_errors import brief

_RESERVE = 0.1
"""Fraction of the remaining budget that a target leaves to the next one: windows may take more than the mean."""

_LEAST_FRACTION = 0.01
"""Engines on GPUs are not started again for less than this fraction of the windows so far."""


def windows_of_first_round(config: JobConfig) -> int:
    """Windows of every query in the first round, or the minimum if a budget in windows is allocated uniformly.

    Args:
        config: A job with a budget.
    """
    assert config.budget is not None
    max_windows: int = config.strategy.max_windows(config.input.max_candidates)
    return min(config.budget.first_windows or 1, max_windows)


def in_budget_unit(config: JobConfig, requested: float, tokens: float, spend: Spend) -> float:
    """What requests have spent, in the unit of the budget.

    Args:
        config: A job with a budget.
        requested: Number of requests, retries included.
        tokens: Their prompt and output tokens.
        spend: Their GPU-hours, and the price of their tokens.
    """
    assert config.budget is not None
    gpu_cost = spend.gpu_hours * (config.report.price_per_gpu_hour or 0.0)
    return {
        "windows": requested,
        "tokens": tokens,
        "gpu_hours": spend.gpu_hours,
        "cost": gpu_cost if spend.cost is None else spend.cost,
    }[config.budget.unit]


class WindowTarget:
    """The targets of one run. `windows` is the current one."""

    def __init__(self, config: JobConfig, record: RunRecord) -> None:
        """Read the targets that earlier starts of the run have stored.

        Args:
            config: A job with a budget.
            record: The run, with the number of this start.

        Raises:
            OutputError: The store cannot be reached, or a stored target is damaged.
        """
        assert config.budget is not None
        self._config, self._budget, self._record = config, config.budget, record
        self._control = open_object_store(config.output.path, config.storage)
        self._stored = 0
        self.windows = self._budget.windows or record.queries * windows_of_first_round(config)
        while self._budget.windows is None and (stored := self._read(self._stored + 1)) is not None:
            self._stored, self.windows = self._stored + 1, stored

    def describe(self, requested: int, spent: float) -> str:
        """What the run has spent of the budget, in its unit, and the windows that it has requested, for the log."""
        if self._budget.unit == "windows":
            return f"{requested:,} of {self.windows:,} windows requested"
        unit = {"tokens": "tokens", "gpu_hours": "GPU-hours", "cost": self._config.report.currency}[self._budget.unit]
        shown = f"{spent:,.0f}" if self._budget.unit == "tokens" else f"{spent:,.4g}"
        return f"{shown} of {self._budget.amount:,} {unit} spent, {requested:,} windows requested"

    def advance(self, requested: int, spent: float) -> bool:
        """Raise the target by what is left of the budget, less the reserve.

        Args:
            requested: Windows that the run has requested.
            spent: What the run has spent, in the unit of the budget.

        Returns:
            Whether the rest of the budget is enough for another round.
        """
        if self._budget.unit == "windows" or not requested:
            return False
        further = self._further_windows(requested, spent)
        if not further:
            return False
        self._stored += 1
        self._store(self._stored, requested + further)
        return True

    def _further_windows(self, windows: int, spent: float) -> int:
        """The windows of the next target, if `windows` have taken `spent`."""
        left = (1 - _RESERVE) * max(self._budget.amount - spent, 0.0)
        further = int(left * windows / spent) if spent else windows  # nothing is known of the price yet
        further -= further % windows_of_first_round(self._config)
        least = self._config.cluster.max_replica_count
        if self._config.engine.gpus_per_replica:
            least = max(least, int(_LEAST_FRACTION * windows))
        return further if further >= least else 0

    def _store(self, number: int, windows: int) -> None:
        """Store a target. If a paused driver of the run has stored it in the meantime, the stored one stays."""
        body = json.dumps({"windows": windows, "start": self._record.starts}).encode()
        self._control.create(self._name(number), body)
        self.windows = self._read(number) or windows

    def _read(self, number: int) -> int | None:
        stored = self._control.read(self._name(number))
        if stored is None:
            return None
        try:
            return int(json.loads(stored.body)["windows"])
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"cannot read the windows of round {number}: {self._name(number)} of the output is damaged"
                f" ({brief(error)}); delete it, and they are computed again"
            ) from error

    def _name(self, number: int) -> str:
        return f"{budget_folder(self._record.run_id)}/{number}.json"
