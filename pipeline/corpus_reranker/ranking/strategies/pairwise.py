"""Pairwise ranking prompting with sorting (PRP: Qin et al., arXiv 2306.17563)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from corpus_reranker.ranking.heapsort import best_by_heapsort, max_comparisons
from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows

_ORDERS = 2
"""Number of requests for one pair: it is shown in both orders."""


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Sort the best `k` of the first `depth` candidates by comparisons of two passages.

    Each pair is shown in both orders, concurrently. If the answers disagree, the pair is a tie, and both passages keep
    their positions. The other candidates follow in first-stage order. The comparisons equal those of
    `PairwiseLlmRanker` in ielab's llm-rankers.

    Attributes:
        method: heapsort: a binary heap. sliding: `k` passes of bubble sort from the bottom of the list to the top
            (PRP-Sliding-K in the paper). A pass skips the pairs at the bottom that the previous pass did not change.
        k: Number of candidates at the top that are sorted; the paper uses 10 passes.
        depth: Number of first-stage candidates to rerank.
    """

    method: Literal["heapsort", "sliding"] = "heapsort"
    k: int = 10
    depth: int = 100

    def __post_init__(self) -> None:
        if self.method not in ("heapsort", "sliding"):
            raise ValueError(f"method must be heapsort or sliding, got {self.method!r}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
        if self.depth < self.k:
            raise ValueError(f"depth {self.depth} is smaller than k {self.k}")

    @property
    def max_window(self) -> int:
        return 2

    def max_windows(self, num_candidates: int) -> int:
        depth = min(num_candidates, self.depth)
        if self.method == "heapsort":
            return 2 * _ORDERS * max_comparisons(depth, self.k, 2)
        return _ORDERS * sum(depth - 1 - done for done in range(min(self.k, depth)))

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        depth = min(num_candidates, self.depth)
        sort = self._sliding if self.method == "sliding" else self._heapsort
        return list(dict.fromkeys([*await sort(depth, rank_window), *range(num_candidates)]))

    async def _heapsort(self, depth: int, rank_window: RankWindow) -> list[int]:
        async def pick_best(groups: list[list[int]], starts: list[int]) -> list[int]:
            best = [group[0] for group in groups]
            for child in (1, 2):
                compared = [number for number, group in enumerate(groups) if child < len(group)]
                pairs = [(groups[number][child], best[number], starts[number]) for number in compared]
                for number, better in zip(compared, await _first_is_better(pairs, rank_window), strict=True):
                    if better:
                        best[number] = groups[number][child]
            return best

        return await best_by_heapsort(depth, self.k, 2, pick_best)

    async def _sliding(self, depth: int, rank_window: RankWindow) -> list[int]:
        order, bottom = list(range(depth)), depth - 1
        for done in range(self.k):
            lowest_change = None
            for position in range(bottom, done, -1):
                lower, upper = order[position], order[position - 1]
                (better,) = await _first_is_better([(lower, upper, position - 1)], rank_window)
                if better:
                    order[position - 1 : position + 1] = lower, upper
                    lowest_change = lowest_change or position
            if lowest_change is None:
                break
            bottom = min(lowest_change + 1, depth - 1)
        return order[: self.k]


async def _first_is_better(pairs: Sequence[tuple[int, int, int]], rank_window: RankWindow) -> list[bool]:
    """For each pair (first, second, start): whether the first wins in both orders in which the pair is shown."""
    windows = chain.from_iterable((((a, b), start), ((b, a), start)) for a, b, start in pairs)
    orders = await rank_windows(rank_window, windows)
    return [
        shown[0] == swapped[0] == first
        for (first, _, _), shown, swapped in zip(pairs, orders[::2], orders[1::2], strict=True)
    ]
