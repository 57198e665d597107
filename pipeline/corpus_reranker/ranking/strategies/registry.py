"""The strategies a job config can name by `strategy.name`."""

from corpus_reranker.plugins import load_class
from corpus_reranker.ranking.strategies.base import Strategy

STRATEGIES: dict[str, str] = {
    "active": "corpus_reranker.ranking.strategies.active:Active",
    "full_list": "corpus_reranker.ranking.strategies.full_list:FullList",
    "groupwise": "corpus_reranker.ranking.strategies.groupwise:Groupwise",
    "pairwise": "corpus_reranker.ranking.strategies.pairwise:Pairwise",
    "pointwise": "corpus_reranker.ranking.strategies.pointwise:Pointwise",
    "setwise_heapsort": "corpus_reranker.ranking.strategies.setwise_heapsort:SetwiseHeapsort",
    "shuffle_consensus": "corpus_reranker.ranking.strategies.shuffle_consensus:ShuffleConsensus",
    "single_window": "corpus_reranker.ranking.strategies.single_window:SingleWindow",
    "sliding_window": "corpus_reranker.ranking.strategies.sliding_window:SlidingWindow",
    "top_down": "corpus_reranker.ranking.strategies.top_down:TopDown",
    "tournament": "corpus_reranker.ranking.strategies.tournament:Tournament",
}


def strategy_class(name: str) -> type[Strategy]:
    """The strategy registered as `name`, or the class that "module:Class" names.

    Raises:
        ValueError: No such strategy, or it cannot be loaded.
    """
    cls: type[Strategy] = load_class("strategy", name, STRATEGIES)
    return cls
