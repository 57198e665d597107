"""Setwise reranking with heapsort (Zhuang et al., arXiv 2310.09497; Rank-R1: Zhuang et al., arXiv 2503.06034)."""

from dataclasses import dataclass

from corpus_reranker.ranking.heapsort import best_by_heapsort, max_comparisons
from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows


@dataclass(frozen=True, slots=True)
class SetwiseHeapsort:
    """Sort the best `k` of the first `depth` candidates by a heap with `num_child` children in each node.

    A window shows a node and its children, and the first passage of the answer becomes the parent. Any answer format
    works; formats with one label (`best_label`) are the cheapest. The other candidates follow in first-stage order. The
    comparisons equal those of `SetwiseLlmRanker.heapSort` in ielab's llm-rankers.

    Attributes:
        num_child: Children of a node. A window shows up to `num_child` + 1 passages.
        k: Number of candidates at the top that are sorted. 10 suits nDCG@10.
        depth: Number of first-stage candidates to rerank.
    """

    num_child: int = 3
    k: int = 10
    depth: int = 100

    def __post_init__(self) -> None:
        if self.num_child < 1 or self.k < 1:
            raise ValueError(f"num_child and k must be at least 1, got {self.num_child} and {self.k}")
        if self.depth < self.k:
            raise ValueError(f"depth {self.depth} is smaller than k {self.k}")

    @property
    def max_window(self) -> int:
        return self.num_child + 1

    def max_windows(self, num_candidates: int) -> int:
        return max_comparisons(min(num_candidates, self.depth), self.k, self.num_child)

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        async def pick_best(groups: list[list[int]], starts: list[int]) -> list[int]:
            return [order[0] for order in await rank_windows(rank_window, zip(groups, starts, strict=True))]

        top = await best_by_heapsort(min(num_candidates, self.depth), self.k, self.num_child, pick_best)
        return list(dict.fromkeys([*top, *range(num_candidates)]))
