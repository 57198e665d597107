"""Calls of the models of a replica, in this process and without Ray."""

from typing import ClassVar

import pytest

from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.dataflow.coordinator import CoordinatorClient
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.query_reranker import QueryReranker
from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.types import Candidate, Completion, Prompt, RerankRequest, RerankResult, SamplingParams

REQUEST = RerankRequest("q1", "what?", tuple(Candidate(f"d{i}", f"passage {i}", 1.0 - i / 10) for i in range(2)))


class ClosingSettings(EngineSettings):
    model: str = "closing"
    tokenizer: str | None = "words"
    budget: bool = True
    continues: bool = True

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(reasoning_budget=self.budget, continuation=self.continues)


class Closing:
    """Its reasoning ends only at the reasoning budget, or if the prompt already closes it."""

    settings_class: ClassVar[type[EngineSettings]] = ClosingSettings
    requests: ClassVar[list[SamplingParams]] = []

    def __init__(self, settings: ClosingSettings, context: EngineContext) -> None:
        assert context.close_reasoning
        self._settings = settings

    @property
    def capabilities(self) -> EngineCapabilities:
        return self._settings.capabilities

    async def start(self) -> None:
        self.requests.clear()

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requests.append(params)
        if params.max_reasoning_tokens is not None:
            return Completion("<think>hm</think><answer>[2] > [1]</answer>", "capped", 10, 60)
        if "</think>\n<answer>" in prompt.text.rpartition("hm")[2]:
            return Completion("[2] > [1]</answer>", "stop", 10, 5)
        return Completion("<think>hm", "length", 10, params.max_tokens)

    def progress(self) -> int:
        return 0

    async def stop(self) -> None:
        pass

    def info(self) -> dict[str, object]:
        return {"engine": "closing"}


async def rerank(budget: bool, continues: bool = True) -> RerankResult:
    config = RerankerConfig.model_validate(
        {
            "engine": {"kind": f"{__name__}:Closing", "budget": budget, "continues": continues},
            "generation": {"close_reasoning": True, "max_reasoning_tokens": 50, "max_answer_tokens": 30},
        }
    )
    replica = ReplicaId("actor", "host:1")
    reranker = QueryReranker(
        config, replica, RunServices(), ReplicaStats(replica), QueriesInFlight(CoordinatorClient(replica))
    )
    await reranker.start()
    async with reranker.admitted(REQUEST.query_id, reranker.max_windows(len(REQUEST.candidates))) as slot:
        return await reranker.rerank(REQUEST, slot)


@pytest.mark.parametrize(("budget", "requests"), [(True, 1), (False, 2)])
async def test_reasoning_is_closed_by_the_engine_or_by_a_second_request(budget: bool, requests: int) -> None:
    result = await rerank(budget)
    assert (result.status, result.order) == ("complete", (1, 0))
    assert [window.finish_reason for window in result.windows] == ["capped"]
    assert len(Closing.requests) == requests
    assert Closing.requests[0].max_reasoning_tokens == (50 if budget else None)
    assert Closing.requests[0].max_tokens == (80 if budget else 50)


async def test_an_engine_that_cannot_continue_a_response_gets_one_request() -> None:
    result = await rerank(budget=False, continues=False)
    assert [window.status for window in result.windows] == ["truncated"]
    assert len(Closing.requests) == result.windows[0].attempts
