"""Groupwise reranking: scores within shuffled groups, averaged (GroupRank: Sun et al., arXiv 2511.11653)."""

import random
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from corpus_reranker.ranking.scores import rank_by_score
from corpus_reranker.ranking.strategies.base import ScoreWindow, rank_windows
from corpus_reranker.ranking.windows import check_window, chunks
from corpus_reranker.types import Ranking


@dataclass(frozen=True, slots=True)
class Groupwise:
    """Shuffle the first `depth` candidates into groups, score all groups concurrently, and order by the mean scores.

    A candidate's score is the mean over its groups, one group for each of the `shuffles`. Equal means keep the
    first-stage order. A candidate without any score follows those with one.

    Differs from the authors' code (AQ-MedAI/Diver, rerank_groupwise.py): groups have nearly equal sizes, and a group
    without a usable answer gives no scores. Their code makes the last group smaller, and scores such a group 0.

    Attributes:
        window: Maximum number of passages in a group.
        depth: Number of first-stage candidates to rerank.
        shuffles: Number of times that each candidate is scored, each time in another group.
        seed: Seed of the shuffles.
    """

    window: int = 20
    depth: int = 100
    shuffles: int = 2
    seed: int = 0

    needs_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        if self.shuffles < 1:
            raise ValueError(f"shuffles must be at least 1, got {self.shuffles}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.shuffles * len(chunks(range(min(num_candidates, self.depth)), self.window))

    async def rank(self, num_candidates: int, score_window: ScoreWindow) -> Ranking:
        depth = min(num_candidates, self.depth)
        rng = random.Random(str(self.seed))
        groups = [group for _ in range(self.shuffles) for group in chunks(rng.sample(range(depth), depth), self.window)]
        group_scores = await rank_windows(score_window, [(group, min(group)) for group in groups])
        found: list[list[float]] = [[] for _ in range(depth)]
        for group, scores in zip(groups, group_scores, strict=True):
            for index, score in zip(group, scores, strict=True):
                if score is not None:
                    found[index].append(score)
        return rank_by_score([fmean(scores) if scores else None for scores in found], num_candidates)
