"""Pointwise reranking: each candidate is scored on its own (Qwen3-Reranker, Rank1, ERank)."""

from dataclasses import dataclass
from typing import ClassVar

from corpus_reranker.ranking.scores import rank_by_score
from corpus_reranker.ranking.strategies.base import ScoreWindow, rank_windows
from corpus_reranker.types import Ranking


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Score the first `depth` candidates concurrently, in one window each, and order them by score.

    Equal scores keep the first-stage order. A candidate without a score follows those with one. The candidates below
    `depth` come last.

    Attributes:
        depth: Number of first-stage candidates to rerank.
    """

    depth: int = 100

    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, got {self.depth}")

    @property
    def max_window(self) -> int:
        return 1

    def max_windows(self, num_candidates: int) -> int:
        return min(num_candidates, self.depth)

    async def rank(self, num_candidates: int, score_window: ScoreWindow) -> Ranking:
        depth = min(num_candidates, self.depth)
        scores = await rank_windows(score_window, [([index], index) for index in range(depth)])
        return rank_by_score([score for (score,) in scores], num_candidates)
