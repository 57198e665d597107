"""A strategy that ranks by scores, from outside the package."""

from dataclasses import dataclass
from typing import ClassVar

from corpus_reranker.ranking.strategies.base import ScoreWindow, rank_windows
from corpus_reranker.types import Ranking


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Scores each candidate on its own. Candidates without a score come last."""

    window: int = 1

    needs_scores: ClassVar[bool] = True

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return num_candidates

    async def rank(self, num_candidates: int, score_window: ScoreWindow) -> Ranking:
        windows = await rank_windows(score_window, [([index], index) for index in range(num_candidates)])
        scores = [score for (score,) in windows]
        order = sorted(range(num_candidates), key=lambda index: -(scores[index] or float("-inf")))
        return Ranking(order, llm_scores=scores)
