"""Simulated pools: poison queries are set aside, and engines that die by themselves cost no query.

The policy, the reports and the coordinator are the real ones. An engine is a counter of requests; a process that dies
loses its tasks; a completion is cached before the next request.
"""

import asyncio
import itertools
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.config.cluster import ClusterConfig
from corpus_reranker.dataflow.coordinator import Coordinator, CoordinatorClient
from corpus_reranker.dataflow.poison_query import PoisonQueryPolicy, ReplicaHistory
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.errors import RowError
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams
from helpers.scripts import SAMPLING, completion

WINDOWS = 5
PROMPT = Prompt("", ())


class Client(CoordinatorClient):
    """Calls a coordinator of this process."""

    def __init__(self, replica: ReplicaId, coordinator: Coordinator) -> None:
        super().__init__(replica)
        self._called, self._id = coordinator, replica

    def replica_started(self) -> ReplicaHistory:
        return self._called.replica_started(self._id)

    async def update_queries(self, completions: Mapping[str, int], ended: Sequence[str]) -> bool:
        self._called.update_queries(self._id, completions, ended)
        return True


@dataclass
class Pool:
    """A pool of replicas that takes queries from one input.

    Attributes:
        queries: Number of queries.
        in_flight: Queries in flight on each replica.
        poison: The window at which each poison query ends its process.
        dies_at: Each engine dies at its request of this number. None: only poison queries end it.
        max_starts: One for each replica, ten for each poison query, and one for each `dies_at - 1` windows and two for
            each query if engines die by themselves.
    """

    queries: int
    replicas: int
    in_flight: int
    poison: Mapping[str, int]
    dies_at: int | None
    seed: int

    def __post_init__(self) -> None:
        self.waiting = deque(f"q{number}" for number in range(self.queries))
        self.coordinator = Coordinator(None, Path(":memory:"))
        self.cached: Counter[str] = Counter()
        self.ranked: set[str] = set()
        self.set_aside: set[str] = set()
        self.starts = 0
        of_engine = self.queries * WINDOWS // (self.dies_at - 1) + 2 * self.queries if self.dies_at else 0
        self.max_starts = self.replicas + 10 * len(self.poison) + of_engine
        self.most_deaths_without_progress = 0
        self.random = random.Random(self.seed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.replicas):
                group.create_task(self._replica(f"actor-{number}"))

    async def _replica(self, actor_id: str) -> None:
        held: list[str] = []
        for number in itertools.count():
            self.take(held)
            if not held:
                return
            process = Process(self, ReplicaId(actor_id, f"{actor_id}:{number}"), held)
            self.starts += 1
            assert self.starts <= self.max_starts
            await process.run()

    def take(self, held: list[str]) -> list[str]:
        """Replace the finished queries of a replica, and return the new ones."""
        held[:] = [query_id for query_id in held if query_id not in self.ranked | self.set_aside]
        taken = [self.waiting.popleft() for _ in range(min(self.in_flight + 2 - len(held), len(self.waiting)))]
        held += taken
        return taken


class Process:
    """One process of a replica, which ends with its queries or with its engine."""

    def __init__(self, pool: Pool, replica: ReplicaId, held: list[str]) -> None:
        self._pool, self._held = pool, held
        client = Client(replica, pool.coordinator)
        history = client.replica_started()
        pool.most_deaths_without_progress = max(pool.most_deaths_without_progress, history.deaths_without_progress)
        self._policy = PoisonQueryPolicy(history)
        self._in_flight = QueriesInFlight(client, self._policy.is_isolated)
        self._slots = asyncio.Semaphore(pool.in_flight)
        self._requests = 0
        self._died = asyncio.Event()

    async def run(self) -> None:
        died = asyncio.create_task(self._died.wait())
        running = {asyncio.create_task(self._rerank(query_id)) for query_id in self._held}
        while running and not self._died.is_set():
            done, _ = await asyncio.wait({*running, died}, return_when=asyncio.FIRST_COMPLETED)
            running -= done
            running |= {asyncio.create_task(self._rerank(query_id)) for query_id in self._pool.take(self._held)}
        for task in [*running, died]:
            task.cancel()
        await asyncio.gather(*running, died, return_exceptions=True)

    async def _rerank(self, query_id: str) -> None:
        await self._pause()
        try:
            self._policy.check(query_id)
        except RowError:
            self._pool.set_aside.add(query_id)
            return
        async with self._policy.isolation(query_id), self._slots, self._in_flight.query(query_id):
            for window in range(WINDOWS):
                await self._engine(query_id, window)(PROMPT, SAMPLING)
                await self._in_flight.count_completion(query_id)
            self._pool.ranked.add(query_id)

    def _engine(self, query_id: str, window: int) -> Generate:
        async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
            if self._pool.cached[query_id] <= window:
                self._requests += 1
                if self._requests == self._pool.dies_at or self._pool.poison.get(query_id) == window:
                    self._died.set()
                await self._pause()
                if self._died.is_set():
                    await asyncio.Event().wait()  # for the end of the process
                self._pool.cached[query_id] += 1
            return completion("[1]")

        return generate

    async def _pause(self) -> None:
        for _ in range(self._pool.random.randrange(8)):
            await asyncio.sleep(0)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    queries = draw(st.integers(1, 40))
    poison = draw(
        st.dictionaries(st.integers(0, queries - 1).map("q{}".format), st.integers(0, WINDOWS - 1), max_size=4)
    )
    dies_at = draw(st.none() | st.integers(2, 12))
    return Pool(queries, draw(st.integers(1, 4)), draw(st.integers(1, 16)), poison, dies_at, draw(st.integers(0, 99)))


@settings(max_examples=40, deadline=None)
@given(pool=pools())
def test_only_poison_queries_are_isolated(pool: Pool) -> None:
    queries = set(pool.waiting)
    asyncio.run(pool.run())
    assert pool.set_aside == pool.poison.keys()
    assert pool.ranked == queries - pool.poison.keys()
    assert pool.starts <= pool.max_starts
    assert pool.most_deaths_without_progress <= ClusterConfig().max_replica_deaths
