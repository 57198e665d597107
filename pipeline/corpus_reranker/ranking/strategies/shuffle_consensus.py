"""Permutation self-consistency (Tang et al., arXiv 2310.07712): position bias averaged out over shuffled prompts."""

from dataclasses import dataclass
from statistics import fmean

from corpus_reranker.ranking.consensus import agreeing_pairs, kemeny_consensus, mean_kendall_tau
from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows_shuffled
from corpus_reranker.ranking.windows import check_stride, check_window, sliding_windows
from corpus_reranker.types import Ranking


@dataclass(frozen=True, slots=True)
class ShuffleConsensus:
    """Sliding windows, each ranked `shuffles` times concurrently in shuffled orders, merged by Kemeny consensus.

    With `depth` equal to `window` this is the paper's procedure on one list.

    Each copy of a window pairs a candidate with the other passages of the window. The agreement of the candidate is the
    fraction of these pairs, over all windows, that the copies order as the consensus of the window does. The stability
    is Kendall's tau between two copies of a window, averaged over all pairs of copies and then over the windows. A copy
    without an answer counts with the order before the window. With one copy, there is no agreement and no stability.

    Attributes:
        window: Passages in one window.
        stride: Positions that the next window moves up.
        depth: Number of first-stage candidates to rerank.
        shuffles: Shuffled copies of each window.
        seed: Seed of the shuffles.
    """

    window: int = 20
    stride: int = 10
    depth: int = 100
    shuffles: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        check_stride(self.stride, self.window)
        if self.shuffles < 1:
            raise ValueError(f"shuffles must be at least 1, got {self.shuffles}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.shuffles * len(self._windows(num_candidates))

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> Ranking:
        order, agreeing, pairs = list(range(num_candidates)), [0] * num_candidates, [0] * num_candidates
        taus: list[float] = []
        for start, end in self._windows(num_candidates):
            windows = [(order[start:end], start)] * self.shuffles
            rankings = await rank_windows_shuffled(rank_window, windows, f"{self.seed}/{start}")
            order[start:end] = consensus = kemeny_consensus(rankings)
            if self.shuffles == 1 or len(consensus) == 1:
                continue
            taus.append(mean_kendall_tau(rankings))
            for index, count in agreeing_pairs(rankings, consensus).items():
                agreeing[index] += count
                pairs[index] += len(rankings) * (len(consensus) - 1)
        return Ranking(
            order,
            agreement=[count / total if total else None for count, total in zip(agreeing, pairs, strict=True)],
            stability=fmean(taus) if taus else None,
        )

    def _windows(self, num_candidates: int) -> list[tuple[int, int]]:
        return sliding_windows(min(num_candidates, self.depth), self.window, self.stride)
