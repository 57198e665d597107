"""The coordinator knows a query before it starts. Queries that start together share one report."""

import asyncio
from collections.abc import Mapping, Sequence

from corpus_reranker.dataflow.coordinator import CoordinatorClient
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.replica import ReplicaId


class Coordinator(CoordinatorClient):
    """Records the reports. It does not answer the first `unanswered` of them."""

    def __init__(self, unanswered: int = 0) -> None:
        super().__init__(ReplicaId("actor-1", "host:1"))
        self._unanswered = unanswered
        self.reports: list[tuple[dict[str, int], list[str]]] = []

    async def update_queries(self, completions: Mapping[str, int], ended: Sequence[str]) -> bool:
        await asyncio.sleep(0)
        self.reports.append((dict(completions), list(ended)))
        return len(self.reports) > self._unanswered


async def start_and_end(in_flight: QueriesInFlight, query_id: str, coordinator: Coordinator) -> None:
    async with in_flight.query(query_id):
        assert any(query_id in started for started, _ in coordinator.reports)
        assert query_id in in_flight.ids


async def test_queries_that_start_together_share_a_report() -> None:
    coordinator = Coordinator()
    in_flight = QueriesInFlight(coordinator)
    query_ids = [f"q{number}" for number in range(100)]
    await asyncio.gather(*(start_and_end(in_flight, query_id, coordinator) for query_id in query_ids))
    await in_flight.report()
    assert len(coordinator.reports) <= 4
    assert sorted(query_id for _, ended in coordinator.reports for query_id in ended) == sorted(query_ids)
    assert len(in_flight) == 0


async def test_an_unanswered_report_is_repeated_by_the_next_one() -> None:
    coordinator = Coordinator(unanswered=1)
    in_flight = QueriesInFlight(coordinator)
    async with in_flight.query("a"):
        await in_flight.report()
        assert coordinator.reports == [({"a": 0}, []), ({"a": 0}, [])]
    await in_flight.report()
    await in_flight.report()
    assert coordinator.reports[2:] == [({}, ["a"])]


async def test_only_completions_of_isolated_queries_are_reported() -> None:
    coordinator = Coordinator()
    in_flight = QueriesInFlight(coordinator, lambda query_id: query_id == "isolated")

    async with in_flight.query("isolated"), in_flight.query("other"):
        for query_id in ("isolated", "other"):
            await in_flight.count_completion(query_id)
    assert [started for started, _ in coordinator.reports] == [{"isolated": 0}, {"other": 0}, {"isolated": 1}]
