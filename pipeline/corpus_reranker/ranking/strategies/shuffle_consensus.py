"""Permutation self-consistency (Tang et al., arXiv 2310.07712): the LLM's places in the prompt, averaged away."""

from dataclasses import dataclass

from corpus_reranker.ranking.consensus import kemeny_consensus
from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows_shuffled
from corpus_reranker.ranking.windows import check_window, sliding_windows


@dataclass(frozen=True, slots=True)
class ShuffleConsensus:
    """Sliding windows, each asked `shuffles` times at once in shuffled orders and settled by the Kemeny consensus.

    With `depth` = `window` it is the paper's procedure on one list. `shuffles` 1 takes each window's order from one
    shuffled prompt.
    """

    window: int = 20
    stride: int = 10
    depth: int = 100
    shuffles: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"need 1 <= stride <= window, got stride {self.stride} and window {self.window}")
        if self.shuffles < 1:
            raise ValueError(f"shuffles must be at least 1, got {self.shuffles}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.shuffles * len(self._windows(num_candidates))

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        order = list(range(num_candidates))
        for start, end in self._windows(num_candidates):
            samples = [(order[start:end], start)] * self.shuffles
            order[start:end] = kemeny_consensus(
                await rank_windows_shuffled(rank_window, samples, f"{self.seed}/{start}")
            )
        return order

    def _windows(self, num_candidates: int) -> list[tuple[int, int]]:
        return sliding_windows(min(num_candidates, self.depth), self.window, self.stride)
