"""Top-down partitioning (TDPart: Parry, MacAvaney and Ganguly, arXiv 2405.14589).

The top window is ranked first, and the passage at rank `cutoff` in it becomes the pivot. All passages below the window
are compared with the pivot in partitions that run concurrently. The passages that beat the pivot are ranked once more
with those above it. The longest chain has three windows; sliding windows need nine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows
from corpus_reranker.ranking.windows import check_window, chunks


@dataclass(frozen=True, slots=True)
class TopDown:
    """Rank the best `depth` candidates of the first stage to find the first `cutoff`.

    A partition holds the pivot and up to `window - 1` passages; partitions have nearly equal sizes. Every partition
    costs one window, so a depth of window + m * (window - 1) fills all of them: depth 96 takes one window less than
    depth 100. If more passages beat the pivot than the last window holds, those placed best in their partitions enter
    it and the others follow. With `rounds` above 1, top-down starts again on all passages that beat the pivot.

    Differs from the authors' code (Parry-Parry/TDPart): all partitions run concurrently. Their code runs them in
    sequence until `window` passages have beaten the pivot, and keeps the first ones.

    Attributes:
        window: Passages in one window.
        depth: Number of first-stage candidates to rerank.
        cutoff: Rank of the pivot in the top window; 10 suits nDCG@10.
        rounds: Maximum number of rounds. Each further round starts from the passages that beat the last pivot.
    """

    window: int = 20
    depth: int = 100
    cutoff: int = 10
    rounds: int = 1

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        if not 1 <= self.cutoff < self.window:
            raise ValueError(f"need 1 <= cutoff < window, got cutoff {self.cutoff} and window {self.window}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        remaining, windows = min(num_candidates, self.depth), 1
        for _ in range(self.rounds):
            if remaining <= self.window:
                break
            below = remaining - self.window
            windows += 1 + len(chunks(range(below), self.window - 1))
            remaining = self.cutoff - 1 + below  # worst case: all beat the pivot
        return windows

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        contenders = list(range(min(num_candidates, self.depth)))
        final_tail = list(range(len(contenders), num_candidates))
        for _ in range(self.rounds):
            if len(contenders) <= self.window:
                break
            above, pivot, below = await self._split(contenders, rank_window)
            contenders, final_tail = above, [pivot, *below, *final_tail]
            if len(above) < self.cutoff:  # nothing beat the pivot: the top window's order is final
                return contenders + final_tail
        top = await rank_window(contenders[: self.window], 0)
        return top + contenders[self.window :] + final_tail

    async def _split(self, contenders: Sequence[int], rank_window: RankWindow) -> tuple[list[int], int, list[int]]:
        """One round: the passages above the pivot (the top window's first), the pivot, the passages below it."""
        top = await rank_window(contenders[: self.window], 0)
        pivot_position = self.cutoff - 1
        pivot = top[pivot_position]
        partitions = chunks(contenders[self.window :], self.window - 1)
        windows = [([pivot, *partition], pivot_position) for partition in partitions]
        orders = await rank_windows(rank_window, windows)
        winners = [order[: order.index(pivot)] for order in orders]
        losers = [index for order in orders for index in order[order.index(pivot) + 1 :]]
        best_placed_first = [index for rank in zip_longest(*winners) for index in rank if index is not None]
        return top[:pivot_position] + best_placed_first, pivot, top[pivot_position + 1 :] + losers
