"""Adaptive reranking of the candidates that might belong in the top (AcuRank: Yoon et al., arXiv 2505.18512)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows
from corpus_reranker.ranking.trueskill import Gaussian, update_beliefs
from corpus_reranker.ranking.windows import check_window, chunks
from corpus_reranker.types import Belief, Ranking

PRIOR_SPREAD = 2.0
"""Distance between the prior means of the first and the last candidate, in standard deviations of the prior. AcuRank's
prior mean is the first-stage score, and a third of that score is its standard deviation. With BM25 on TREC DL 2020, the
distance is then 2.0."""


@dataclass(frozen=True, slots=True)
class Active:
    """Keep a Gaussian belief about each candidate's relevance, and rerank only the uncertain candidates.

    The first round ranks the best `depth` candidates once. If that takes more than one window, each further round ranks
    the candidates whose probability of being among the first `cutoff` lies between `tolerance` and 1 - `tolerance`, in
    windows of neighbors. Once fewer than `min_uncertain` are left, a last round ranks the likely top.

    The ranking has the final beliefs about the best `depth` candidates, and a stability: the mean probability that a
    candidate of the first `cutoff` exceeds the threshold that `cutoff` candidates are expected to exceed. A query whose
    candidates fit in one window has no beliefs and no stability: the answer gives the order. A window's stability is
    the one that the ranking would have if `max_calls` had made this window the last.

    Attributes:
        window: Passages in one window.
        depth: Number of first-stage candidates to rerank.
        cutoff: Rank that separates the top from the rest; 10 suits nDCG@10.
        max_calls: Maximum number of windows for one query. The round that reaches it ranks only its likeliest
            candidates. Sliding windows take 9 for 100 candidates.
        tolerance: A candidate is certain if its probability of being in the top is below this, or above 1 minus this.
            0.01 is the authors' default.
        min_uncertain: Start the last round once fewer candidates are uncertain. 10 is the authors' default.
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

    def with_max_windows(self, max_windows: int) -> "Active":
        """This strategy with another `max_calls`. The first windows do not depend on it."""
        return replace(self, max_calls=max_windows)

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> Ranking:
        depth = min(num_candidates, self.depth)
        if depth <= self.window:
            return Ranking([*await rank_window(range(depth), 0), *range(depth, num_candidates)])
        beliefs = prior_beliefs(depth)
        stabilities: list[float] = []
        to_rank, last_round = list(range(depth)), False
        while windows := self._windows(to_rank)[: self.max_calls - len(stabilities)]:
            for order in await _rank_concurrently(beliefs, windows, rank_window):
                apply_answer(beliefs, order)
                stabilities.append(stability(beliefs, self.cutoff))
            if last_round:
                break
            to_rank, last_round = self.next_round(beliefs)
        return self._ranking(beliefs, num_candidates, stabilities)

    def next_round(self, beliefs: Sequence[Gaussian]) -> tuple[list[int], bool]:
        """The candidates to rank next, likeliest in the top first, and whether this is the last round."""
        threshold = _threshold(beliefs, self.cutoff)
        probability = {index: belief.above(threshold) for index, belief in enumerate(beliefs)}
        likely = sorted((i for i in probability if probability[i] > self.tolerance), key=lambda i: -probability[i])
        uncertain = [index for index in likely if probability[index] < 1 - self.tolerance]
        return (likely, True) if len(uncertain) < self.min_uncertain else (uncertain, False)

    def _windows(self, to_rank: Sequence[int]) -> list[list[int]]:
        """The windows of a round. A window of a single candidate is left out: it needs no request."""
        return [indices for indices in chunks(to_rank, self.window) if len(indices) > 1]

    def _ranking(self, beliefs: Sequence[Gaussian], num_candidates: int, stabilities: Sequence[float]) -> Ranking:
        order = by_mean(beliefs)
        return Ranking(
            [*order, *range(len(order), num_candidates)],
            beliefs=[
                *(Belief(belief.mean, math.sqrt(belief.variance)) for belief in beliefs),
                *[None] * (num_candidates - len(beliefs)),
            ],
            stability=stabilities[-1],
            window_stability=stabilities,
        )


def prior_beliefs(depth: int) -> list[Gaussian]:
    """The beliefs of the best `depth` candidates before the first window."""
    return [Gaussian(-PRIOR_SPREAD * index / max(depth - 1, 1), 1.0) for index in range(depth)]


def apply_answer(beliefs: list[Gaussian], order: Sequence[int]) -> None:
    """Update the beliefs of the candidates that a window ranked in `order`, best first."""
    for index, belief in zip(order, update_beliefs([beliefs[index] for index in order]), strict=True):
        beliefs[index] = belief


def by_mean(beliefs: Sequence[Gaussian]) -> list[int]:
    """The indices of the candidates, best first."""
    return sorted(range(len(beliefs)), key=lambda index: -beliefs[index].mean)


def stability(beliefs: Sequence[Gaussian], cutoff: int) -> float:
    """How certain it is that the first `cutoff` candidates belong there.

    It is the mean probability, over these candidates, of exceeding the value that `cutoff` candidates are expected to
    exceed. The expected share of wrong candidates among the first `cutoff` is 1 minus this.
    """
    threshold = _threshold(beliefs, cutoff)
    return sum(beliefs[index].above(threshold) for index in by_mean(beliefs)[:cutoff]) / cutoff


async def _rank_concurrently(
    beliefs: Sequence[Gaussian], windows: Sequence[Sequence[int]], rank_window: RankWindow
) -> list[list[int]]:
    """Rank `windows` concurrently. Each starts at the position of its best candidate in the order of `beliefs`."""
    position = {index: position for position, index in enumerate(by_mean(beliefs))}
    return await rank_windows(rank_window, [(indices, min(map(position.__getitem__, indices))) for indices in windows])


def _threshold(beliefs: Sequence[Gaussian], count: int) -> float:
    """The value that `count` candidates are expected to exceed.

    Bisection in 30 steps: the error is below 1e-7, in standard deviations of the prior.
    """
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
