"""One window over the best candidates of the first stage: the cheapest strategy, and a baseline."""

from dataclasses import dataclass

from corpus_reranker.ranking.strategies.base import RankWindow
from corpus_reranker.ranking.windows import check_window


@dataclass(frozen=True, slots=True)
class SingleWindow:
    """Rank the best `window` candidates of the first stage. The others follow in first-stage order.

    Attributes:
        window: Number of first-stage candidates to rerank, all in one window.
    """

    window: int = 20

    def __post_init__(self) -> None:
        check_window(self.window, self.window)

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return 1

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        order = await rank_window(range(min(self.window, num_candidates)), 0)
        return [*order, *range(len(order), num_candidates)]
