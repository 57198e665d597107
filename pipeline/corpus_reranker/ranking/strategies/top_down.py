"""Top-down partitioning (Parry, MacAvaney and Ganguly, arXiv 2405.14589): a pivot instead of a bubble.

The top window is ranked first and the passage at rank `cutoff` in it becomes the pivot. Everything below the window
is compared with the pivot in partitions that are asked at once, and what beats the pivot is ranked once more with
what stood above it. Three windows deep instead of nine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows
from corpus_reranker.ranking.windows import check_window, chunks


@dataclass(frozen=True, slots=True)
class TopDown:
    """Rank the best `depth` candidates for the sake of the first `cutoff`.

    A partition holds the pivot and up to `window - 1` passages; there is no small leftover partition, they are cut
    evenly. A last partition costs a window however few its passages, so `depth` = window + m (window - 1) wastes
    none: 96 takes one window fewer than 100. If more passages beat the pivot than the last window holds, the best
    placed in their partitions go in and the others follow behind it, or, with `rounds` > 1, top-down starts again on
    all that beat it.

    Differs from the authors' code (Parry-Parry/TDPart): all partitions are asked, at once, where it asks them in turn
    until it has `window` winners and takes these first come.
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
            remaining = self.cutoff - 1 + below  # all of them beat the pivot
        return windows

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        contenders = list(range(min(num_candidates, self.depth)))
        settled = list(range(len(contenders), num_candidates))
        for _ in range(self.rounds):
            if len(contenders) <= self.window:
                break
            above, pivot, below = await self._split(contenders, rank_window)
            contenders, settled = above, [pivot, *below, *settled]
            if len(above) < self.cutoff:  # nothing beat the pivot: they stand as the top window ranked them
                return contenders + settled
        final = await rank_window(contenders[: self.window], 0)
        return final + contenders[self.window :] + settled

    async def _split(self, contenders: Sequence[int], rank_window: RankWindow) -> tuple[list[int], int, list[int]]:
        """What stands above the pivot (the top window's part first, then the winners), the pivot, what stands below."""
        top = await rank_window(contenders[: self.window], 0)
        pivot_at = self.cutoff - 1
        pivot = top[pivot_at]
        partitions = chunks(contenders[self.window :], self.window - 1)
        answers = await rank_windows(rank_window, [([pivot, *partition], pivot_at) for partition in partitions])
        winners = [answer[: answer.index(pivot)] for answer in answers]
        losers = [index for answer in answers for index in answer[answer.index(pivot) + 1 :]]
        best_placed_first = [index for rank in zip_longest(*winners) for index in rank if index is not None]
        return top[:pivot_at] + best_placed_first, pivot, top[pivot_at + 1 :] + losers
