"""The section of the run report about a budget: what its windows gained, and which queries had them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from corpus_reranker.array_types import FloatArray, IntArray
from corpus_reranker.evaluation.measures import SystemScores
from corpus_reranker.evaluation.outputs import open_output
from corpus_reranker.evaluation.rankings import map_data_files, read_batches
from corpus_reranker.io.schemas import QUERY_ID, WINDOWS
from corpus_reranker.report.run_data import RunData

GAIN_WINDOWS = 1_000
"""Number of windows in the unit of a gain."""

_UNREAD_FIELDS = frozenset(field.name for field in WINDOWS.value_type) - {"attempts"}
"""Fields of windows to skip: one is enough to count them."""


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One round. Gains are summed over the queries, per 1,000 windows; None if they are not known."""

    queries: int
    windows: int
    stability: float | None
    stability_gain: float | None
    ndcg: float | None
    ndcg_gain: float | None


@dataclass(frozen=True, slots=True)
class WindowLine:
    """The queries that had a window of this number, counted from 1, and their mean stability before and after it.

    `gain` is as in `RoundLine`, without retries. `before` and `gain` are None for the first window.
    """

    number: int
    queries: int
    before: float | None
    after: float
    gain: float | None


@dataclass(frozen=True, slots=True)
class SpentLine:
    """The queries that had the same number of windows. `stability` is their mean stability, None if no query has one.

    `judged` is the number of those with qrels, `ndcg_before` and `ndcg_after` are means over these, of the first stage
    and after reranking.
    """

    windows: int
    queries: int
    stability: float | None
    judged: int = 0
    ndcg_before: float | None = None
    ndcg_after: float | None = None


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """nDCG@10 of the judged queries, one value for each: of the first stage and after reranking.

    `windows` is -1 for a query that the output does not have.
    """

    before: FloatArray
    after: FloatArray
    windows: IntArray


@dataclass(frozen=True, slots=True)
class BudgetSection:
    """Rounds of the last start of the run, windows by their number, and queries by their windows."""

    rounds: list[RoundLine]
    windows: list[WindowLine]
    spent: list[SpentLine]


def read_judged(output: tuple[FileSystem, str], scores: Sequence[SystemScores]) -> JudgedQueries:
    """Read how many windows each judged query had.

    Args:
        output: Filesystem and folder of the output.
        scores: nDCG@10 of the orders in the output, the first stage's first and the reranked one last.

    Raises:
        InputError: A data file cannot be read.
    """
    query_ids = pa.array(scores[0].query_ids, pa.string())
    windows = np.full(len(query_ids), -1)
    files = open_output(*output, allow_unfinished=True).data_files
    for batches in map_data_files(partial(_windows_of, output[0], query_ids), files):
        for positions, counts in batches:
            windows[positions] = counts
    return JudgedQueries(scores[0].values[0], scores[-1].values[0], windows)


def _windows_of(filesystem: FileSystem, query_ids: pa.Array, data_file: str) -> list[tuple[IntArray, IntArray]]:
    """The positions in `query_ids` of the queries of a data file, and their numbers of windows."""
    found = []
    for batch in read_batches(filesystem, data_file, [QUERY_ID, "windows"], unread_fields=_UNREAD_FIELDS):
        positions = pc.index_in(batch[QUERY_ID].cast(pa.string()), value_set=query_ids)
        counts = pc.list_value_length(batch["windows"]).filter(pc.is_valid(positions))
        found.append((positions.drop_null().to_numpy(), counts.to_numpy()))
    return found


def budget_section(
    data: RunData, passes: Sequence[Mapping[str, Any]], judged: JudgedQueries | None
) -> BudgetSection | None:
    """The section; None for a run without a budget, or whose manifest has no rounds.

    Args:
        data: The output.
        passes: Entries of the manifest, each with what the output held before the pass.
        judged: The judged queries; None without qrels.
    """
    states = [each["budget"] for each in passes if "budget" in each]
    if not states:
        return None
    queries = round(data.queries / data.sampled_fraction)
    known = data.stability[~np.isnan(data.stability)]
    last = {
        "rows": queries,
        "windows": round(data.attempts / data.sampled_fraction),
        "stability": _mean(known),
        "ndcg": None if judged is None else float(judged.after.mean()),
    }
    counts = {
        "stability": round(len(known) / data.sampled_fraction),
        "ndcg": 0 if judged is None else len(judged.after),
    }
    rounds = [_round(before, after, counts) for before, after in pairwise([*states, last])]
    return BudgetSection(rounds, _window_lines(data), _spent(data, judged))


def _round(before: Mapping[str, Any], after: Mapping[str, Any], counts: Mapping[str, int]) -> RoundLine:
    """The line of a round. `counts` has the number of queries with a stability and with qrels."""
    windows = after["windows"] - before["windows"]
    comparable = windows > 0 and before["rows"] == after["rows"]  # before the first round, there are no rows to compare

    def gain(name: str) -> float | None:
        if not comparable or before[name] is None or after[name] is None:
            return None
        return float((after[name] - before[name]) * counts[name] / windows * GAIN_WINDOWS)

    values = after["stability"], gain("stability"), after["ndcg"], gain("ndcg")
    return RoundLine(before["queries"], windows, *values)


def _window_lines(data: RunData) -> list[WindowLine]:
    """One line for each number of windows. Windows without a stability, or without one before them, are skipped."""
    numbers = np.arange(len(data.window_stability)) - np.repeat(
        np.cumsum(data.windows_by_query) - data.windows_by_query, data.windows_by_query
    )
    before = np.where(numbers > 0, np.roll(data.window_stability, 1), np.nan)
    lines = []
    for number in range(int(numbers.max(initial=-1)) + 1):
        known = (numbers == number) & np.isfinite(data.window_stability) & (np.isfinite(before) | (number == 0))
        if known.any():
            after, start = float(data.window_stability[known].mean()), float(before[known].mean()) if number else None
            gain = None if start is None else (after - start) * GAIN_WINDOWS
            lines.append(WindowLine(number + 1, int(known.sum()), start, after, gain))
    return lines


def _spent(data: RunData, judged: JudgedQueries | None) -> list[SpentLine]:
    lines = []
    for windows in np.unique(data.windows_by_query).tolist():
        stability = data.stability[data.windows_by_query == windows]
        line = SpentLine(windows, len(stability), _mean(stability[~np.isnan(stability)]))
        if judged is not None:
            chosen = judged.windows == windows
            before, after = _mean(judged.before[chosen]), _mean(judged.after[chosen])
            line = replace(line, judged=int(chosen.sum()), ndcg_before=before, ndcg_after=after)
        lines.append(line)
    return lines


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None
