"""The pre-ranker before the strategy: no candidate is lost, the cut is by score, and a failure is recorded."""

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.ranking.pre_ranker import cascade, order_by_score, passage_text
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.types import (
    Candidate,
    Completion,
    Generate,
    Prompt,
    RerankRequest,
    RerankResult,
    SamplingParams,
    Score,
)
from helpers.scripts import NO_BACKOFF, SAMPLING, oracle, prompt_builder, request_of


def scores_of(scores: Sequence[float]) -> Score:
    async def score(query: str, passages: Sequence[str]) -> Sequence[float]:
        assert query == "a query"
        assert passages == [f"passage {i}" for i in range(len(passages))]
        return scores

    return score


async def run(num_candidates: int, score: Score, keep: int, generate: Generate) -> RerankResult:
    async def rank(request: RerankRequest) -> RerankResult:
        return await rerank_query(
            request,
            generate,
            strategy=SingleWindow(),
            prompt_builder=prompt_builder,
            sampling=SAMPLING,
            policy=NO_BACKOFF,
        )

    return await cascade(request_of(num_candidates), score, keep, 5.0, rank)


async def fails(prompt: Prompt, params: SamplingParams) -> Completion:
    raise RequestError("no")


async def test_candidates_without_text_are_not_scored_and_come_last() -> None:
    texts = ["passage 0", " ", "passage 1", ""]
    candidates = tuple(Candidate(f"d{index}", text, 0.0) for index, text in enumerate(texts))

    async def rank(request: RerankRequest) -> RerankResult:
        return await rerank_query(request, oracle(lambda position: position), prompt_builder=prompt_builder)

    request = RerankRequest("q1", "a query", candidates)
    result = await cascade(request, scores_of([1.0, 2.0]), 2, 5.0, rank)
    assert (result.order, result.status) == ((0, 2, 1, 3), "complete")
    assert result.pre_ranker_scores is not None
    assert [str(score) for score in result.pre_ranker_scores] == ["1.0", "nan", "2.0", "nan"]


async def test_best_by_score_are_ranked_and_the_rest_follows_by_score() -> None:
    # the LLM prefers the last passage that it is shown
    result = await run(6, scores_of([1.0, 6.0, 3.0, 5.0, 2.0, 4.0]), 3, oracle(lambda position: position))
    assert result.order == (5, 3, 1, 2, 4, 0)
    assert result.pre_ranker_scores == (1.0, 6.0, 3.0, 5.0, 2.0, 4.0)
    assert (result.status, result.error) == ("complete", None)
    assert [(window.start, window.end) for window in result.windows] == [(0, 3)]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12), st.integers(1, 15))
def test_every_candidate_appears_once_for_any_scores(scores: list[float], keep: int) -> None:
    result = asyncio.run(run(len(scores), scores_of(scores), keep, oracle(lambda position: -position)))
    assert sorted(result.order) == list(range(len(scores)))
    assert list(result.order) == order_by_score(scores)
    ranked = [scores[index] for index in result.order]
    assert ranked == sorted(scores, reverse=True)


def test_equal_scores_keep_the_first_stage_order() -> None:
    assert order_by_score([1.0, 2.0, 1.0, 2.0, -0.0, 0.0]) == [1, 3, 0, 2, 4, 5]


async def test_failed_pre_ranker_degrades_the_query() -> None:
    async def broken(query: str, passages: Sequence[str]) -> Sequence[float]:
        raise RequestError("scoring failed")

    result = await run(5, broken, 3, oracle(lambda position: position))
    assert result.order == (2, 1, 0, 3, 4)
    assert result.status == "degraded"
    assert result.error == "pre-ranker: RequestError: scoring failed"
    assert result.pre_ranker_scores is None


@pytest.mark.parametrize("scores", [[1.0, math.nan, 0.0], [1.0, 2.0], [math.inf, 1.0, 0.0]])
async def test_invalid_scores_are_a_failed_pre_ranker(scores: list[float]) -> None:
    result = await run(3, scores_of(scores), 2, oracle(lambda position: -position))
    assert (result.order, result.status) == ((0, 1, 2), "degraded")
    assert "pre-ranker" in str(result.error)


async def test_slow_pre_ranker_is_cancelled() -> None:
    ended = []

    async def never(query: str, passages: Sequence[str]) -> Sequence[float]:
        try:
            await asyncio.Event().wait()
            return []
        finally:
            ended.append(True)

    async def rank(request: RerankRequest) -> RerankResult:
        return RerankResult(request.query_id, "complete", tuple(range(len(request.candidates))), ())

    result = await cascade(request_of(3), never, 2, 0.01, rank)
    assert ended
    assert (result.status, result.order) == ("degraded", (0, 1, 2))


async def test_query_without_llm_answers_fails_in_pre_ranker_order() -> None:
    result = await run(4, scores_of([1.0, 2.0, 3.0, 4.0]), 2, fails)
    assert (result.status, result.order) == ("failed", (3, 2, 1, 0))
    assert str(result.error).startswith("window [0, 2)")


async def test_failure_of_both_stages_keeps_input_order_and_both_reasons() -> None:
    result = await run(4, scores_of([math.nan] * 4), 2, fails)
    assert (result.status, result.order) == ("failed", (0, 1, 2, 3))
    assert "pre-ranker" in str(result.error)
    assert "window [0, 2)" in str(result.error)


async def test_dead_pre_ranker_engine_is_raised() -> None:
    async def dead(query: str, passages: Sequence[str]) -> Sequence[float]:
        raise EngineDeadError("gone")

    with pytest.raises(EngineDeadError):
        await run(3, dead, 2, fails)


def test_title_precedes_the_text() -> None:
    assert passage_text(Candidate("d", "text", 0.0, "Title")) == "Title text"
    assert passage_text(Candidate("d", "text", 0.0, "")) == "text"
