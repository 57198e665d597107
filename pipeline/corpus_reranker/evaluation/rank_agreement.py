"""How far two ranked lists of documents agree: Kendall's tau, rank-biased overlap, overlap at a cutoff."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus_reranker.array_types import IntArray

_MAX_PAIRWISE = 256
"""Longer lists are split: comparing all pairs at once takes the square of the length in bytes."""


@dataclass(frozen=True, slots=True)
class PairedRanks:
    """Two ranked lists, as the ranks of the documents that both hold.

    Attributes:
        a: Rank in list A, from 0, of each document in both lists, ascending.
        b: Rank in list B of the same documents.
        length_a: Number of documents in list A.
        length_b: Number of documents in list B.
    """

    a: IntArray
    b: IntArray
    length_a: int
    length_b: int

    @classmethod
    def of(cls, a: Sequence[str], b: Sequence[str]) -> "PairedRanks":
        """Pair two lists of doc ids, best first, each without duplicates."""
        rank_in_b = {doc_id: rank for rank, doc_id in enumerate(b)}
        found = np.array([rank_in_b.get(doc_id, -1) for doc_id in a], np.int64)
        common = np.flatnonzero(found >= 0)
        return cls(common, found[common], len(a), len(b))

    @property
    def same_documents(self) -> bool:
        """Whether both lists hold the same documents."""
        return len(self.a) == self.length_a == self.length_b

    @property
    def same_first(self) -> bool:
        """Whether both lists begin with the same document, or both are empty."""
        return self.overlap(1) == 1.0

    def kendall_tau(self) -> float:
        """Kendall's tau over the documents in both lists: 1 for the same order, -1 for the reverse.

        1 if there are fewer than two such documents, because there is no pair to disagree about. The values are those
        of `scipy.stats.kendalltau`, which takes twenty times as long for 100 documents, because it computes a p-value.
        """
        pairs = len(self.b) * (len(self.b) - 1) / 2
        return 1 - 2 * _inversions(self.b) / pairs if pairs else 1.0

    def rbo(self, p: float) -> float:
        """Extrapolated rank-biased overlap, from 0 to 1.

        It is equation 32 of Webber, Moffat and Zobel (TOIS 2010), for lists without ties.

        Args:
            p: Persistence, between 0 and 1: a reader who has read a document reads the next one with this
                probability. The first 10 ranks have 86 % of the weight at 0.9.
        """
        short, long = sorted((self.length_a, self.length_b))
        if not short:
            return 0.0 if long else 1.0
        depths = np.arange(1, long + 1)
        common = np.cumsum(np.bincount(np.maximum(self.a, self.b), minlength=long))
        beyond = common[short - 1] * np.maximum(depths - short, 0) / short
        seen = (1 - p) / p * ((common + beyond) / depths * p**depths).sum()
        extrapolated = ((common[-1] - common[short - 1]) / long + common[short - 1] / short) * p**long
        return float(min(seen + extrapolated, 1.0))  # rounding can exceed 1

    def overlap(self, cutoff: int) -> float:
        """Documents in the top `cutoff` of both lists, as a fraction of the longer of the two tops."""
        longest = min(cutoff, max(self.length_a, self.length_b))
        return float(np.count_nonzero((self.a < cutoff) & (self.b < cutoff))) / longest if longest else 1.0


def _inversions(ranks: IntArray) -> int:
    """Number of pairs in descending order."""
    if len(ranks) <= _MAX_PAIRWISE:
        return int(np.count_nonzero((ranks[:, None] < ranks[None, :]) & _below_diagonal(len(ranks))))
    left, right = np.array_split(ranks, 2)
    across = len(left) * len(right) - int(np.searchsorted(np.sort(left), right).sum())
    return _inversions(left) + _inversions(right) + across


@functools.cache
def _below_diagonal(size: int) -> npt.NDArray[np.bool_]:
    return np.tri(size, k=-1, dtype=np.bool_)
