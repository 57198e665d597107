"""Permutation self-consistency (Tang et al., arXiv 2310.07712): position bias averaged out over shuffled prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from corpus_reranker.ranking.consensus import agreeing_pairs, kemeny_consensus, majority_probabilities
from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows_shuffled
from corpus_reranker.ranking.windows import check_stride, check_window, sliding_windows
from corpus_reranker.types import Ranking


@dataclass(frozen=True, slots=True)
class ShuffleConsensus:
    """Sliding windows, each ranked `shuffles` times concurrently in shuffled orders, merged by Kemeny consensus.

    With `depth` equal to `window` this is the paper's procedure on one list. More shuffles then add copies of the same
    window, so a ranking can be continued.

    Each copy of a window pairs a candidate with the other passages of the window. The agreement of the candidate is the
    fraction of these pairs, over all windows, that the copies order as the consensus of the window does. It is not
    defined for a single copy.

    The stability is the probability that most shuffled prompts order a pair as the consensus of its window does, which
    `majority_probabilities` estimates from the copies. It is the mean over the pairs, in all windows, with at least one
    candidate of the first `cutoff`: 0.75 with one copy, and 1 - 2^-(n + 1) if n copies agree. If there is only one
    window, each copy has the stability that the ranking would have without later copies.

    A copy without an answer counts as a vote for the window's input order.

    Attributes:
        window: Passages in one window.
        stride: Number of positions by which the next window moves up.
        depth: Number of first-stage candidates to rerank.
        shuffles: Shuffled copies of each window.
        seed: Seed of the shuffles.
        cutoff: Number of top candidates that the stability covers. It does not change the order.
    """

    window: int = 20
    stride: int = 10
    depth: int = 100
    shuffles: int = 3
    seed: int = 0
    cutoff: int = 10

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        check_stride(self.stride, self.window)
        if self.shuffles < 1 or self.cutoff < 1:
            raise ValueError(f"shuffles and cutoff must be at least 1, got {self.shuffles} and {self.cutoff}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.shuffles * len(self._windows(num_candidates))

    def with_max_windows(self, max_windows: int) -> "ShuffleConsensus":
        """This strategy with another number of shuffles. The first shuffles do not depend on it.

        Raises:
            ValueError: `depth` is larger than `window`, so each window after the first depends on all copies of the
                window before it.
        """
        if self.depth > self.window:
            raise ValueError(
                f"more shuffles change its sliding windows; set strategy.depth to strategy.window, {self.window}"
            )
        return replace(self, shuffles=max_windows)

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> Ranking:
        order, ranked = list(range(num_candidates)), []
        for start, end in self._windows(num_candidates):
            windows = [(order[start:end], start)] * self.shuffles
            rankings = await rank_windows_shuffled(rank_window, windows, f"{self.seed}/{start}")
            order[start:end] = kemeny_consensus(rankings)
            ranked.append((rankings, order[start:end]))
        top = order[: self.cutoff]
        probabilities = [each for copies in ranked for each in majority_probabilities(*copies, top)]
        return Ranking(
            order,
            agreement=_agreement(ranked, num_candidates),
            stability=fmean(probabilities) if probabilities else None,
            window_stability=self._stabilities(ranked[0][0]) if probabilities and len(ranked) == 1 else None,
        )

    def _stabilities(self, rankings: Sequence[Sequence[int]]) -> list[float]:
        """The stability of the ranking after each copy of its only window."""
        stabilities = []
        for count in range(1, len(rankings) + 1):
            consensus = kemeny_consensus(rankings[:count])
            stabilities.append(fmean(majority_probabilities(rankings[:count], consensus, consensus[: self.cutoff])))
        return stabilities

    def _windows(self, num_candidates: int) -> list[tuple[int, int]]:
        return sliding_windows(min(num_candidates, self.depth), self.window, self.stride)


def _agreement(ranked: Sequence[tuple[list[list[int]], list[int]]], num_candidates: int) -> list[float | None]:
    """The agreement of each candidate, from the copies and the consensus of each window."""
    agreeing, pairs = [0] * num_candidates, [0] * num_candidates
    for rankings, consensus in ranked:
        if len(rankings) > 1:
            for index, count in agreeing_pairs(rankings, consensus).items():
                agreeing[index] += count
                pairs[index] += len(rankings) * (len(consensus) - 1)
    return [count / total if total else None for count, total in zip(agreeing, pairs, strict=True)]
