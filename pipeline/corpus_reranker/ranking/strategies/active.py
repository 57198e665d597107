"""Ask where the top is uncertain (Yoon et al., AcuRank, arXiv 2505.18512)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows
from corpus_reranker.ranking.trueskill import Gaussian, skills_after
from corpus_reranker.ranking.windows import check_window, chunks

PRIOR_SPREAD = 2.0
"""Between the prior means of the first and the last candidate, in deviations of the prior. AcuRank starts from the
first stage's scores, with a third of the score as deviation; for BM25 on TREC DL 2020 that spreads them 2.0."""


@dataclass(frozen=True, slots=True)
class Active:
    """Keep a Gaussian belief of each candidate's relevance, and ask again only those that may or may not be in the top.

    All `depth` are asked once. Then, unless one window held them all, those whose probability of being among the
    first `cutoff` lies between `tolerance` and 1 - `tolerance` are asked again, at once, in windows of neighbours,
    until fewer than `min_uncertain` are left; at the end the top is asked a last time. Never more than `max_calls`
    windows in all: where the budget ends a round, the likeliest are asked.

    Tolerance 0.01 and 10 uncertain are the authors' defaults; `max_calls` 9 is what sliding windows take for 100.
    """

    window: int = 20
    depth: int = 100
    cutoff: int = 10
    max_calls: int = 9
    tolerance: float = 0.01
    min_uncertain: int = 10

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        if not 1 <= self.cutoff < self.depth:
            raise ValueError(f"need 1 <= cutoff < depth, got cutoff {self.cutoff} and depth {self.depth}")
        if self.max_calls < 1 or self.min_uncertain < 1:
            raise ValueError("max_calls and min_uncertain must be at least 1")
        if not 0 < self.tolerance < 0.5:
            raise ValueError(f"tolerance must be between 0 and 0.5, got {self.tolerance}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.max_calls

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        depth = min(num_candidates, self.depth)
        if depth <= self.window:
            return [*await rank_window(range(depth), 0), *range(depth, num_candidates)]
        beliefs = [Gaussian(-PRIOR_SPREAD * index / (depth - 1), 1.0) for index in range(depth)]
        calls_left = self.max_calls
        doubtful, last = list(range(depth)), False
        while doubtful and calls_left:
            windows = chunks(doubtful, self.window)[:calls_left]
            calls_left -= len(windows)
            await self._ask(windows, beliefs, rank_window)
            if last:
                break
            doubtful, last = self._doubtful(beliefs)
        return [*_by_mean(beliefs), *range(depth, num_candidates)]

    async def _ask(self, windows: Sequence[Sequence[int]], beliefs: list[Gaussian], rank_window: RankWindow) -> None:
        """Ask windows at once and put what they say into `beliefs`."""
        position = {index: position for position, index in enumerate(_by_mean(beliefs))}
        for answer in await rank_windows(
            rank_window, [(indices, min(map(position.__getitem__, indices))) for indices in windows]
        ):
            for index, skill in zip(answer, skills_after([beliefs[index] for index in answer]), strict=True):
                beliefs[index] = skill

    def _doubtful(self, beliefs: Sequence[Gaussian]) -> tuple[list[int], bool]:
        """Candidates to ask next, likeliest in the top first, and whether that is for the last time."""
        threshold = _threshold(beliefs, self.cutoff)
        chances = {index: beliefs[index].above(threshold) for index in range(len(beliefs))}
        likely = sorted((i for i in chances if chances[i] > self.tolerance), key=lambda i: -chances[i])
        uncertain = [index for index in likely if chances[index] < 1 - self.tolerance]
        return (likely, True) if len(uncertain) < self.min_uncertain else (uncertain, False)


def _by_mean(beliefs: Sequence[Gaussian]) -> list[int]:
    return sorted(range(len(beliefs)), key=lambda index: -beliefs[index].mean)


def _threshold(beliefs: Sequence[Gaussian], count: int) -> float:
    """The value that `count` candidates are expected to be above, by bisection."""
    scaled = [(belief.mean, 1 / math.sqrt(2 * belief.variance)) for belief in beliefs]
    low = min(mean - 8 / scale for mean, scale in scaled)
    high = max(mean + 8 / scale for mean, scale in scaled)
    for _ in range(30):
        middle = (low + high) / 2
        if sum(math.erfc((middle - mean) * scale) for mean, scale in scaled) > 2 * count:
            low = middle
        else:
            high = middle
    return (low + high) / 2
