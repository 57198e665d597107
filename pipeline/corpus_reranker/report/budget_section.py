"""The section of the run report about a budget: what its rounds gained, and which queries had the windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from corpus_reranker.report.run_data import RunData

_WINDOWS = 1_000


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
class SpentLine:
    """The queries that had the same number of windows. `stability` is their mean, None if none has one."""

    windows: int
    queries: int
    stability: float | None


@dataclass(frozen=True, slots=True)
class BudgetSection:
    """Rounds of the last start of the run, and queries by their windows."""

    rounds: list[RoundLine]
    spent: list[SpentLine]


def budget_section(
    data: RunData, passes: Sequence[Mapping[str, Any]], ndcg: float | None, judged_queries: int
) -> BudgetSection | None:
    """The section; None for a run without a budget, or whose manifest has no rounds.

    Args:
        data: The output.
        passes: Entries of the manifest, each with what the output held before the pass.
        ndcg: nDCG@10 of the output.
        judged_queries: Number of queries with qrels.
    """
    states = [each["budget"] for each in passes if "budget" in each]
    if not states:
        return None
    queries = round(data.queries / data.sampled_fraction)
    known = data.stability[~np.isnan(data.stability)]
    last = {
        "rows": queries,
        "windows": round(data.attempts / data.sampled_fraction),
        "stability": float(known.mean()) if len(known) else None,
        "ndcg": ndcg,
    }
    rounds = [_round(before, after, queries, judged_queries) for before, after in pairwise([*states, last])]
    return BudgetSection(rounds, _spent(data))


def _round(before: Mapping[str, Any], after: Mapping[str, Any], queries: int, judged_queries: int) -> RoundLine:
    windows = after["windows"] - before["windows"]
    counts = {"stability": queries, "ndcg": judged_queries}
    comparable = windows > 0 and before["rows"] == after["rows"]  # the first round has no row before it

    def gain(name: str) -> float | None:
        if not comparable or before[name] is None or after[name] is None:
            return None
        return float((after[name] - before[name]) * counts[name] / windows * _WINDOWS)

    values = after["stability"], gain("stability"), after["ndcg"], gain("ndcg")
    return RoundLine(before["queries"], windows, *values)


def _spent(data: RunData) -> list[SpentLine]:
    lines = []
    for windows in np.unique(data.windows_by_query).tolist():
        stability = data.stability[data.windows_by_query == windows]
        known = stability[~np.isnan(stability)]
        lines.append(SpentLine(windows, len(stability), float(known.mean()) if len(known) else None))
    return lines
