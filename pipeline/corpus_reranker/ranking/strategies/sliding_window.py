"""Back-to-front sliding windows (RankGPT: Sun et al., arXiv 2304.09542). ReasonRank was evaluated with them."""

from dataclasses import dataclass

from corpus_reranker.ranking.strategies.base import RankWindow
from corpus_reranker.ranking.windows import check_stride, check_window, sliding_windows


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Rank the best `depth` candidates of the first stage, from the last window to the first.

    Consecutive windows overlap by `window - stride` positions, so the best passages of each window compete in the next.
    The defaults are ReasonRank's (arXiv 2508.07050).

    Attributes:
        window: Passages in one window.
        stride: Number of positions by which the next window moves up.
        depth: Number of first-stage candidates to rerank.
        passes: Number of passes over all windows.
        full_windows: The top window also shows `window` passages, so its overlap with the window below is larger. For
            models that were trained on windows of one size.
        stop_when_stable: Skip the remaining passes after one that changes nothing. At temperature 0 the next pass would
            repeat the same prompts.
    """

    window: int = 20
    stride: int = 10
    depth: int = 100
    passes: int = 1
    full_windows: bool = False
    stop_when_stable: bool = False

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        check_stride(self.stride, self.window)
        if self.passes < 1:
            raise ValueError(f"passes must be at least 1, got {self.passes}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.passes * len(self._windows(num_candidates))

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        order = list(range(num_candidates))
        for _ in range(self.passes):
            before = list(order)
            for start, end in self._windows(num_candidates):
                order[start:end] = await rank_window(order[start:end], start)
            if self.stop_when_stable and order == before:
                break
        return order

    def _windows(self, num_candidates: int) -> list[tuple[int, int]]:
        return sliding_windows(min(num_candidates, self.depth), self.window, self.stride, self.full_windows)
