"""The order of the wrappers around an engine's `generate`."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

from corpus_reranker.answers.continuation import continue_reasoning
from corpus_reranker.cache.completions import CompletionCache
from corpus_reranker.dataflow.admission import Admission
from corpus_reranker.dataflow.capacity import Capacity
from corpus_reranker.dataflow.coordinator import CoordinatorClient
from corpus_reranker.dataflow.generate import compose_generate
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams
from helpers.stats_actor import FakeStatsActor

PARAMS = SamplingParams(0.0, 1.0, 0, 0.0, max_tokens=200, seed=1, stop=("</answer>",))
REPLICA = ReplicaId("actor-1", "host:1")
ANSWER = "<think>so <answer>[1] > [2]</answer> no</think><answer>[2] > [1]</answer>"
"""The answer in the reasoning is a draft: generation stops there once and is continued."""


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def prompt(text: str) -> Prompt:
    return Prompt(text, tuple(encode(text)))


class FakeCache:
    """Keeps completions by the text of their prompt."""

    def __init__(self) -> None:
        self.completions: dict[str, Completion] = {}

    @contextlib.asynccontextmanager
    async def caching(self, query_id: str, generate: Generate) -> AsyncIterator[Generate]:
        async def generate_or_reuse(prompt: Prompt, params: SamplingParams) -> Completion:
            if prompt.text not in self.completions:
                self.completions[prompt.text] = await generate(prompt, params)
            return self.completions[prompt.text]

        yield generate_or_reuse


class Replica:
    """An engine that completes every prompt with ANSWER up to the next stop string, with the objects around it."""

    def __init__(self) -> None:
        self.admission = Admission(Capacity(8), max_tokens=200)
        self.cache = FakeCache()
        self.stats_actor = FakeStatsActor()
        self.stats = ReplicaStats(REPLICA, self.stats_actor)
        self.in_flight = QueriesInFlight(CoordinatorClient(REPLICA))
        self.windows_in_flight: list[int] = []

    async def engine_generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.windows_in_flight.append(self.admission.windows_in_flight)
        rest = ANSWER.removeprefix(prompt.text.removeprefix("rank"))
        text = rest[: rest.index("</answer>") + len("</answer>")]
        return Completion(text, "stop", len(prompt.token_ids), len(text))

    async def rank(self) -> Completion:
        async with (
            self.admission.query(1) as slot,
            compose_generate(
                self.engine_generate,
                self.admission,
                slot,
                self.stats,
                self.in_flight,
                cast(CompletionCache, self.cache),
                None,
                lambda generate: continue_reasoning(generate, encode),
                "q1",
            ) as generate,
        ):
            return await generate(prompt("rank"), PARAMS)

    def counts(self) -> Counter[str]:
        self.stats.send(ReplicaReport(REPLICA))
        return self.stats_actor.counts


async def test_every_continuation_is_admitted_cached_and_counted_separately() -> None:
    replica = Replica()
    completion = await replica.rank()
    assert completion.text == ANSWER
    draft = ANSWER[: ANSWER.index("</answer>") + len("</answer>")]
    assert set(replica.cache.completions) == {"rank", f"rank{draft}"}
    assert replica.windows_in_flight == [1, 1]
    assert replica.admission.windows_in_flight == 0
    assert (replica.counts()["completions"], replica.counts()["requests"]) == (2, 1)
    assert replica.counts()["output_tokens"] == len(ANSWER)


async def test_a_cached_completion_takes_no_slot_and_counts_as_a_request_alone() -> None:
    replica = Replica()
    first = await replica.rank()
    before = Counter(replica.counts())
    second = await replica.rank()
    assert second == first
    assert replica.windows_in_flight == [1, 1]
    assert replica.counts() - before == {"requests": 1}
