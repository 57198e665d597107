"""The windows of a query, counted without an engine."""

from corpus_reranker.ranking.strategies.pointwise import Pointwise
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.run.work import longest_chain


def test_the_longest_chain_is_that_of_dependent_windows() -> None:
    assert longest_chain(SlidingWindow(), 100) == 9
    assert longest_chain(SlidingWindow(), 1) == 0, "one candidate is not requested"
    assert longest_chain(Pointwise(), 5) == 1, "all windows run concurrently"
    assert longest_chain(Pointwise(), 1) == 1, "one candidate is requested for its score"
