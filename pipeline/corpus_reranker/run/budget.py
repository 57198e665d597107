"""The rounds of a run with a budget: which queries get further windows, and how many.

Everything is computed from the rows of the output. A round raises the limit of some queries and reranks these; windows
that they have had before are hits in the completion cache. A row has its limit in the column `max_windows`, so a run
that was killed in a round continues that round, and ends with the allocation of an uninterrupted run.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from corpus_reranker.array_types import IntArray
from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.schemas import MAX_WINDOWS, QUERY_ID
from corpus_reranker.io.sinks.data_files import read_window_counts
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.spend import Spend
from corpus_reranker.run.window_target import WindowTarget, in_budget_unit, windows_of_first_round
from corpus_reranker.types import QueryStatus

LIMITS = pa.schema([(QUERY_ID, pa.string()), (MAX_WINDOWS, pa.int32())])


@dataclass(frozen=True, slots=True)
class BudgetRound:
    """The next round, and what the rows hold before it.

    Attributes:
        limits: The queries to rerank and the windows of each, by the schema LIMITS. Empty if the budget is spent, or
            no query can use more windows.
        rows: Number of rows.
        windows: Windows that were requested, retries included.
        allotted: The sum of the limits in the rows. Every finished query of a round raises it.
        stability: Mean over the rows that have one.
        spent: What the run has spent of the budget, for the log.
    """

    limits: pa.Table
    rows: int
    windows: int
    allotted: int
    stability: float | None
    spent: str

    def describe(self) -> str:
        """The round, for the log."""
        stability = "" if self.stability is None else f", mean stability {self.stability:.4f}"
        queries = counted(self.limits.num_rows, "query") if self.limits.num_rows else "no query"
        return f"{self.spent}{stability}; {queries} in the next round"

    def summary(self) -> dict[str, Any]:
        """The manifest's entry, as JSON values."""
        counts = {"queries": self.limits.num_rows, "rows": self.rows, "windows": self.windows}
        return {**counts, "stability": self.stability}


def check_budget(config: JobConfig, queries: int, schema: pa.Schema, retry: Collection[QueryStatus]) -> None:
    """Check the budget of a run, if it has one.

    Args:
        config: The job.
        queries: Queries of the input.
        schema: Schema of the input.
        retry: Statuses of queries that are reranked again.

    Raises:
        ConfigError: The budget is smaller than the first round of all queries, or finished queries are reranked again.
        InputError: The input has a column with the name of the limit.
    """
    if config.budget is None:
        return
    if retry:
        raise ConfigError("--retry-failed does not work with budget: it would request the windows of all rounds again")
    needed = queries * windows_of_first_round(config)
    if config.budget.windows is not None and config.budget.windows < needed:
        raise ConfigError(
            f"budget.windows {config.budget.windows:,} is too small: the first round of"
            f" {counted(queries, 'query')} takes {needed:,}"
        )
    if MAX_WINDOWS in schema.names:
        raise InputError(f"column {MAX_WINDOWS!r} of the input is also a column of a run with a budget; rename it")


def plan_round(
    config: JobConfig,
    record: RunRecord,
    spend: Spend,
    query_ids: pa.ChunkedArray,
    filesystem: FileSystem,
    paths: Collection[str],
) -> BudgetRound:
    """Read how many windows each query has had, and choose the next round. May raise the run's window target.

    Args:
        config: A job with a budget.
        record: The run, with the number of this start.
        spend: What all starts of the run have spent.
        query_ids: All ids of the input.
        filesystem: Filesystem of the data files.
        paths: The data files, which hold no query twice.

    Raises:
        OutputError: A data file cannot be read, or the store cannot be reached.
    """
    assert config.budget is not None
    budget, max_windows = config.budget, config.strategy.max_windows(config.input.max_candidates)
    rows, totals = read_window_counts(filesystem, sorted(paths))
    new = query_ids.filter(pc.invert(pc.is_in(query_ids, value_set=rows[QUERY_ID]))).cast(pa.string())
    queries = open_queries(rows, new, budget, max_windows)
    target, requested = WindowTarget(config, record), totals["attempts"]
    spent = in_budget_unit(config, requested, totals["prompt_tokens"] + totals["output_tokens"], spend)
    limits = next_limits(budget, max_windows, queries, target.windows - requested)
    if not limits.num_rows and target.advance(requested, spent):
        limits = next_limits(budget, max_windows, queries, target.windows - requested)
    allotted, stability = pc.sum(rows[MAX_WINDOWS]).as_py() or 0, pc.mean(rows["stability"]).as_py()
    return BudgetRound(limits, rows.num_rows, requested, allotted, stability, target.describe(requested, spent))


def open_queries(rows: pa.Table, new: pa.ChunkedArray, budget: BudgetConfig, max_windows: int) -> pa.Table:
    """The queries that can use more windows: new ones, and complete ones that used all of theirs.

    Args:
        rows: Columns query_id, status, stability, max_windows and windows.
        new: Ids of queries without a row.
        budget: The budget.
        max_windows: Maximum number of windows of one query.

    Returns:
        Columns query_id, max_windows and stability, as `next_limits` takes them.
    """
    limit, stability = rows[MAX_WINDOWS], rows["stability"]
    is_open = pc.and_(pc.equal(rows["status"], "complete"), pc.is_valid(stability))
    is_open = pc.and_(is_open, pc.and_(pc.equal(rows["windows"], limit), pc.less(limit, max_windows)))
    if budget.target_stability is not None:
        is_open = pc.and_(is_open, pc.less(stability, budget.target_stability))
    columns = [QUERY_ID, MAX_WINDOWS, "stability"]
    first = pa.table([new, pa.array(np.zeros(len(new), np.int32)), pa.nulls(len(new), pa.float64())], names=columns)
    return pa.concat_tables([rows.select(columns).filter(pc.fill_null(is_open, False)), first])


def next_limits(budget: BudgetConfig, max_windows: int, queries: pa.Table, windows: int) -> pa.Table:
    """Choose the queries of the next round.

    Args:
        budget: The budget.
        max_windows: Maximum number of windows of one query.
        queries: Columns query_id, max_windows and stability of the queries that can use more windows. A query that has
            not been reranked has max_windows 0; it gets windows even if none are left, because it needs a row.
        windows: Windows that are left.

    Returns:
        The queries with a higher limit than before, and that limit.
    """
    by_stability = [("stability", "ascending")] if budget.allocation == "uncertainty" else []
    queries = queries.sort_by([*by_stability, (QUERY_ID, "ascending")])
    before = queries[MAX_WINDOWS].to_numpy().astype(np.int64)
    if budget.first_windows is None:
        limits = uniform_limits(before, windows, max_windows)
    else:
        limits = raised_limits(before, windows, min(budget.first_windows, max_windows), max_windows)
    chosen = queries.set_column(queries.schema.get_field_index(MAX_WINDOWS), MAX_WINDOWS, pa.array(limits, pa.int32()))
    return chosen.filter(pa.array(limits > before)).select(LIMITS.names)


def uniform_limits(before: IntArray, windows: int, max_windows: int) -> IntArray:
    """Raise the lowest limits until `windows` are spent. The first of the lowest ones may get one more than the others.

    Args:
        before: The limit of each query; 0 becomes at least 1.
        windows: The sum by which the limits may rise.
        max_windows: Maximum limit.
    """
    low, high = 0, max_windows
    while low < high:
        level = (low + high + 1) // 2
        affordable = int(np.maximum(level - before, 0).sum()) <= windows
        low, high = (level, high) if affordable else (low, level - 1)
    limits = np.maximum(before, low)
    left = windows - int((limits - before).sum())
    if low < max_windows:
        limits[np.flatnonzero(limits == low)[: max(left, 0)]] += 1
    at_least_one: IntArray = np.maximum(limits, 1)
    return at_least_one


def raised_limits(before: IntArray, windows: int, step: int, max_windows: int) -> IntArray:
    """Raise the lowest limits to the next multiple of `step`, in the given order, as long as `windows` pay for it.

    If they pay for no query, the first query gets the windows that are left. That query is alone in its round:
    otherwise, a run that was killed in the round could not tell which query was next.

    Args:
        before: The limit of each query; 0 becomes `step` even if no windows are left.
        windows: The sum by which the limits may rise.
        step: Windows of a query in one round.
        max_windows: Maximum limit.
    """
    limits = before.copy()
    if len(before):
        rounds = before // step
        lowest = np.flatnonzero(rounds == rounds.min())
        rise = np.minimum((rounds[lowest] + 1) * step, max_windows) - before[lowest]
        paid = (np.cumsum(rise) <= windows) | (before[lowest] == 0)
        limits[lowest[paid]] += rise[paid]
        if not paid.any():
            limits[lowest[0]] += max(windows, 0)
    return limits
