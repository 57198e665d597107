"""Estimates what a budget gains, from the stability after each window of an earlier run over a sample.

The rounds of the budget are planned over the queries of the sample, and their recorded windows are replayed. A sample
is the output of a run without a budget and with the same strategy, whose number of windows may be larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pyarrow.fs import FileSystem

from corpus_reranker.array_types import FloatArray, IntArray
from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.config.strategy import budget_refusal, build_strategy
from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.outputs import read_text
from corpus_reranker.io.filesystem import join
from corpus_reranker.io.schemas import BUDGET, MAX_WINDOWS, QUERY_ID
from corpus_reranker.io.sinks.layout import CONFIG
from corpus_reranker.report.budget_section import GAIN_WINDOWS
from corpus_reranker.report.run_data import RunData
from corpus_reranker.run.budget import next_limits, open_queries

_MAX_QUERIES = 10_000
"""Maximum number of sampled queries that the rounds are planned over."""

_MAX_POINTS = 20
"""Maximum number of points of a curve, besides that of the budget itself."""


@dataclass(frozen=True, slots=True)
class SampledQueries:
    """Queries of an earlier run. Their windows are in one array, one query after the other.

    Attributes:
        windows: Number of windows of each query.
        answered: Number of windows of each query before the first one without an answer.
        stability: Stability after each window, nan if unknown.
        requests: Number of requests before each window; the last value counts all requests.
        max_windows: Maximum number of windows of one query.
    """

    windows: IntArray
    answered: IntArray
    stability: FloatArray
    requests: IntArray
    max_windows: int

    @property
    def query_ids(self) -> pa.Array:
        return pa.array(np.arange(len(self.windows))).cast(pa.string())

    def spent(self, limits: IntArray) -> int:
        """The number of requests of all queries, if `limits` has the maximum windows of each."""
        first = np.cumsum(self.windows) - self.windows
        return int((self.requests[first + np.minimum(limits, self.windows)] - self.requests[first]).sum())

    def stabilities(self, limits: IntArray) -> FloatArray:
        """The stability of each query within its limit of windows, nan if unknown."""
        had = np.minimum(limits, self.windows)
        last = np.cumsum(self.windows) - self.windows + had - 1
        after: FloatArray = np.where(had > 0, self.stability[np.maximum(last, 0)], np.nan)
        return after

    def rows(self, limits: IntArray) -> pa.Table:
        """The columns that `open_queries` needs, for the queries with a limit of at least one window."""
        had = np.minimum(limits, self.windows)
        stability = pa.array(self.stabilities(limits), from_pandas=True)
        columns = {
            QUERY_ID: self.query_ids,
            "status": pa.array(np.where(had <= self.answered, "complete", "degraded")),
            "stability": stability.cast(pa.float64()),
            MAX_WINDOWS: pa.array(limits, pa.int32()),
            "windows": pa.array(had, pa.int32()),
        }
        return pa.table(columns).filter(pa.array(limits > 0))


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The state of the sampled queries after a number of windows.

    Attributes:
        windows_per_query: Requested windows, retries included.
        stability: Mean over the queries that have one.
        stability_gain: Rise of the stability since the point before, summed over the queries, per 1,000 windows.
        is_budget: Whether the run ends here.
    """

    windows_per_query: float
    stability: float
    stability_gain: float | None
    is_budget: bool


@dataclass(frozen=True, slots=True)
class BudgetCurve:
    """The points in ascending order; empty if `note` says why there are none.

    Attributes:
        queries: Number of sampled queries.
    """

    points: tuple[CurvePoint, ...] = ()
    queries: int = 0
    note: str | None = None


def sampled_queries(data: RunData, max_windows: int) -> SampledQueries:
    """The queries of an earlier run, at most _MAX_QUERIES. `max_windows` is the limit of its strategy."""
    windows = data.windows_by_query[:_MAX_QUERIES]
    count = int(windows.sum())
    first = np.cumsum(windows) - windows
    unanswered = np.flatnonzero(~data.window_answered[:count])
    next_unanswered = np.append(unanswered, count)[np.searchsorted(unanswered, first)]
    requests = np.concatenate([[0], np.cumsum(data.window_attempts[:count])])
    stability = data.window_stability[:count]
    return SampledQueries(windows, np.minimum(next_unanswered - first, windows), stability, requests, max_windows)


def budget_curve(
    config: JobConfig,
    budget: BudgetConfig,
    data: RunData,
    output: tuple[FileSystem, str],
    windows_per_query: float | None,
) -> BudgetCurve:
    """The curve of a budget.

    Args:
        config: The job.
        budget: The budget of the job.
        data: What the output of the sample holds.
        output: Filesystem and folder of this output.
        windows_per_query: Requests that the budget pays for; None if that is not known.
    """
    if refusal := budget_refusal(config.strategy):
        return BudgetCurve(note=refusal)
    if BUDGET in data.metadata:
        return BudgetCurve(note="the measured run has a budget; measure a run without one")
    max_windows = config.strategy.max_windows(config.input.max_candidates)
    try:
        max_sampled = _max_windows(config, output)
    except InputError as error:
        return BudgetCurve(note=str(error))
    if np.isnan(data.window_stability).all():
        return BudgetCurve(
            note="no window of the measured run has a stability: each query fits in one, or has no answer"
        )
    sample = sampled_queries(data, min(max_windows, max_sampled))
    return _curve(budget, sample, windows_per_query, max_windows)


def _max_windows(config: JobConfig, output: tuple[FileSystem, str]) -> int:
    """Maximum number of windows of a query in the measured run. Raises InputError if its strategy is another one."""
    text = read_text(output[0], join(output[1], CONFIG))
    if text is None:
        raise InputError(f"the measured output has no {CONFIG}")
    try:
        strategy = build_strategy((yaml.safe_load(text) or {})["strategy"])
        is_same = type(strategy) is type(config.strategy) and (
            strategy.with_max_windows(1) == config.strategy.with_max_windows(1)
        )
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        is_same = False
    if not is_same:
        raise InputError("the measured run has another strategy; only the maximum number of windows may differ")
    max_windows: int = strategy.max_windows(config.input.max_candidates)
    return max_windows


def _curve(
    budget: BudgetConfig, sample: SampledQueries, windows_per_query: float | None, max_windows: int
) -> BudgetCurve:
    queries, fewest = len(sample.windows), budget.first_windows or 1
    levels = np.unique(np.linspace(fewest, max(sample.windows.max(), fewest), _MAX_POINTS).round()).astype(np.int64)
    ends = [plan_rounds(budget, sample, int(level) * queries) for level in levels]
    if windows_per_query is None:
        note = f"the windows that budget.{budget.unit} pays for are unknown; give estimate.windows_per_second"
        return BudgetCurve(_points(sample, ends, None), queries, note)
    windows = round(windows_per_query * queries)
    limits = plan_rounds(budget, sample, windows)
    left = windows - sample.spent(limits)
    if left > 0 and open_queries(sample.rows(limits), _NO_IDS, budget, max_windows).num_rows:
        note = (
            f"the budget pays for {windows_per_query:,.1f} windows per query, and the measured run has at most"
            f" {sample.max_windows}; measure a run with more (strategy.max_calls or strategy.shuffles)"
        )
        return BudgetCurve(_points(sample, ends, None), queries, note)
    unspent = "the budget is not spent: after its row, no query of the measured run can use more windows"
    points = _points(sample, [*ends, limits], sample.spent(limits))
    return BudgetCurve(points, queries, unspent if left > 0 else None)


def _points(sample: SampledQueries, ends: Sequence[IntArray], budget_windows: int | None) -> tuple[CurvePoint, ...]:
    """The points at which the queries have these limits. `budget_windows` is the number at which the run ends."""
    by_spent = {sample.spent(limits): sample.stabilities(limits) for limits in ends}
    points: list[CurvePoint] = []
    spent_before, stabilities_before = 0, np.zeros(len(sample.windows))
    for spent, stabilities in sorted(by_spent.items(), key=lambda each: each[0]):
        gain = None
        if points:
            gain = float(np.nansum(stabilities - stabilities_before) / (spent - spent_before) * GAIN_WINDOWS)
        mean = float(np.nanmean(stabilities))
        points.append(CurvePoint(spent / len(sample.windows), mean, gain, spent == budget_windows))
        spent_before, stabilities_before = spent, stabilities
    return tuple(points)


_NO_IDS = pa.chunked_array([], pa.string())


def plan_rounds(budget: BudgetConfig, sample: SampledQueries, windows: int) -> IntArray:
    """The limit of each query when a budget of `windows` for the sample is spent. Every round raises a limit."""
    limits = np.zeros(len(sample.windows), np.int64)
    while True:
        new = pa.chunked_array([sample.query_ids.filter(pa.array(limits == 0))])
        can_use_more = open_queries(sample.rows(limits), new, budget, sample.max_windows)
        chosen = next_limits(budget, sample.max_windows, can_use_more, windows - sample.spent(limits))
        if not chosen.num_rows:
            return limits
        positions = pc.index_in(chosen[QUERY_ID], value_set=sample.query_ids).to_numpy()
        limits[positions] = chosen[MAX_WINDOWS].to_numpy()
