"""Scores of windows: how a strategy gets them, and when they become the scores of the result."""

from collections.abc import Sequence

import pytest

from corpus_reranker.errors import RequestError
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.strategies.full_list import FullList
from corpus_reranker.ranking.strategies.pointwise import Pointwise
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.subset import expand_result
from corpus_reranker.types import Belief, Completion, Generate, Prompt, Ranking, RerankResult, SamplingParams
from helpers.scripts import NO_BACKOFF, answer, completion, oracle, prompt_builder, request_of, rerank, shown_indices


def logprobs(of: Sequence[float | None]) -> Generate:
    """An LLM that returns the log-probability of each passage shown, and fails for a window with a None."""

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        found = [each for each in (of[index] for index in shown_indices(prompt)) if each is not None]
        if len(found) < len(shown_indices(prompt)):
            raise RequestError("no log-probability")
        return Completion("", "length", 100, 1, tuple(found))

    return generate


async def test_a_strategy_by_scores_requests_windows_of_one_passage() -> None:
    result = await rerank(4, logprobs([-3.0, -0.5, None, -1.0]), Pointwise(), answer_format="first_token")
    assert result.order == (1, 3, 0, 2)
    assert result.llm_scores == [-3.0, -0.5, None, -1.0]
    assert (result.status, [window.status for window in result.windows].count("error")) == ("degraded", 1)
    assert [(window.start, window.end) for window in result.windows] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert {flag for window in result.windows for flag in window.flags} == set()


async def test_a_failed_query_has_no_scores() -> None:
    result = await rerank(3, logprobs([None, None, None]), Pointwise(), answer_format="first_token")
    assert (result.status, result.order, result.llm_scores) == ("failed", (0, 1, 2), None)


async def test_a_strategy_by_scores_needs_a_parser_that_gives_them() -> None:
    with pytest.raises(ValueError, match="Pointwise needs scores, and ReasoningParser gives none"):
        await rerank(3, oracle(lambda index: index), Pointwise())


async def test_the_scores_of_the_only_window_are_those_of_the_query() -> None:
    of = [-3.0, -0.5, -2.0, -1.0]
    single = await rerank(4, logprobs(of), SingleWindow(window=3), answer_format="first_token")
    assert (single.order, single.llm_scores) == ((1, 2, 0, 3), [-3.0, -0.5, -2.0, None])
    several = await rerank(4, logprobs(of), SlidingWindow(2, 1, 4), answer_format="first_token")
    assert len(several.windows) == 3
    assert several.llm_scores is None, "a score is relative to the other passages of its window"
    written = await rerank(4, oracle(lambda index: index), FullList())
    assert written.llm_scores is None


async def test_one_candidate_is_requested_only_for_a_score() -> None:
    listwise = await rerank(1, logprobs([-1.0]), FullList(), answer_format="first_token")
    assert (listwise.windows, listwise.llm_scores) == ((), None)
    pointwise = await rerank(1, logprobs([-1.0]), Pointwise(), answer_format="first_token")
    assert (len(pointwise.windows), pointwise.llm_scores) == (1, [-1.0])


class Returns:
    """A strategy that returns a given ranking after one window."""

    max_window = 20

    def __init__(self, ranking: Ranking | list[int]) -> None:
        self._ranking = ranking

    def max_windows(self, num_candidates: int) -> int:
        return 1

    async def rank(self, num_candidates: int, rank_window: object) -> Ranking | list[int]:
        await rank_window(range(num_candidates), 0)  # type: ignore[operator]
        return self._ranking


async def test_the_result_has_the_scores_and_beliefs_of_the_strategy() -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        return completion(answer(range(2)))

    beliefs = [Belief(0.0, 1.0), None]
    returned = Ranking([1, 0], llm_scores=[0.1, 0.9], beliefs=beliefs, agreement=[0.5, None], stability=0.7)
    result = await rerank_query(
        request_of(2), generate, strategy=Returns(returned), prompt_builder=prompt_builder, policy=NO_BACKOFF
    )
    assert result.order == (1, 0)
    assert (result.llm_scores, result.beliefs) == ([0.1, 0.9], beliefs)
    assert (result.agreement, result.stability) == ([0.5, None], 0.7)
    with pytest.raises(ValueError, match="agreement has 1 values for 2 candidates"):
        Ranking([0, 1], agreement=[0.5])


def test_values_of_some_candidates_are_those_of_the_same_candidates_among_all() -> None:
    result = RerankResult("q", "complete", (1, 0), (), llm_scores=[0.1, 0.9], stability=0.5)
    expanded = expand_result(result, [3, 1], [2, 0])
    assert expanded.order == (1, 3, 2, 0)
    assert expanded.llm_scores == [None, 0.9, None, 0.1]
    assert (expanded.beliefs, expanded.agreement, expanded.stability) == (None, None, 0.5)
