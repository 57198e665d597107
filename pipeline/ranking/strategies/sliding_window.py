"""Back-to-front sliding windows (Sun et al., RankGPT, arXiv 2304.09542), the plan ReasonRank was evaluated with."""

from dataclasses import dataclass

from pipeline.ranking.strategies import Ask
from pipeline.ranking.windows import sliding_windows


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Rank the best `top_k` candidates of the first stage by windows that carry the best ones to the front.

    Defaults are ReasonRank's (arXiv 2508.07050): top 100, window 20, stride 10, one pass.
    """

    window: int = 20
    stride: int = 10
    top_k: int = 100
    passes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"need 1 <= stride <= window, got stride {self.stride} and window {self.window}")
        if self.window < 2:
            raise ValueError(f"window must hold at least 2 passages, got {self.window}")
        if self.top_k < self.window:
            raise ValueError(f"top_k {self.top_k} is smaller than window {self.window}")
        if self.passes < 1:
            raise ValueError(f"passes must be at least 1, got {self.passes}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.passes * len(sliding_windows(min(num_candidates, self.top_k), self.window, self.stride))

    async def rank(self, num_candidates: int, ask: Ask) -> list[int]:
        order = list(range(num_candidates))
        for _ in range(self.passes):
            for start, end in sliding_windows(min(num_candidates, self.top_k), self.window, self.stride):
                order[start:end] = await ask(order[start:end], start)
        return order
