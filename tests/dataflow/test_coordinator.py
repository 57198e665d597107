"""The decisions of the coordinator, which survive its restart."""

from pathlib import Path

import pytest
from ray.exceptions import RayActorError

from corpus_reranker.dataflow.coordinator import Coordinator, CoordinatorClient
from corpus_reranker.dataflow.poison_query import DeathRecord
from corpus_reranker.dataflow.replica_report import ReplicaId

REPLICA = ReplicaId("actor-1", "host:1")
RESTARTED = ReplicaId("actor-1", "host:2")
OTHER = ReplicaId("actor-2", "host:3")


@pytest.fixture(params=["running", "restarted"])
def restarts(request: pytest.FixtureRequest) -> bool:
    """A test with this fixture runs twice: with one coordinator, and with one that restarts before every call."""
    return bool(request.param == "restarted")


class Client:
    """Calls the coordinator, which may restart in between."""

    def __init__(self, num_queries: int | None, state_path: Path, restarts: bool) -> None:
        self._num_queries, self._state_path, self._restarts = num_queries, state_path, restarts
        self._running = Coordinator(num_queries, state_path)

    @property
    def coordinator(self) -> Coordinator:
        return Coordinator(self._num_queries, self._state_path) if self._restarts else self._running


def test_the_input_ends_with_the_last_arrival(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    assert not client.coordinator.report_arrivals(REPLICA, 4, 0)
    assert not client.coordinator.report_arrivals(OTHER, 5, 0)
    assert not client.coordinator.report_arrivals(OTHER, 5, 5)
    assert client.coordinator.report_arrivals(REPLICA, 5, 0)


def test_queries_of_a_lost_process_count_once_they_arrive_again(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.report_arrivals(REPLICA, 6, 2)
    client.coordinator.report_arrivals(OTHER, 3, 0)
    assert not client.coordinator.report_arrivals(RESTARTED, 4, 0)  # 2 returned by the lost process + 4 + 3
    assert client.coordinator.report_arrivals(RESTARTED, 5, 0)


def test_a_repeated_report_counts_once(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.report_arrivals(REPLICA, 6, 0)
    assert not client.coordinator.report_arrivals(REPLICA, 6, 0)


def test_an_unknown_number_of_queries_never_ends(tmp_path: Path) -> None:
    assert not Coordinator(None, tmp_path / "state").report_arrivals(REPLICA, 10**9, 0)


def test_every_query_in_flight_at_a_death_is_counted_once(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.update_queries(REPLICA, {"a": 0, "b": 0, "c": 0}, [])
    client.coordinator.update_queries(OTHER, {"d": 0}, [])
    client.coordinator.update_queries(REPLICA, {}, ["c"])
    for _ in range(2):  # Ray repeats a call whose reply was lost
        assert client.coordinator.replica_started(RESTARTED) == {"a": DeathRecord(1, 2), "b": DeathRecord(1, 2)}
    client.coordinator.update_queries(RESTARTED, {"b": 0}, [])
    client.coordinator.replica_started(REPLICA)
    assert client.coordinator.death_records() == {"a": DeathRecord(1, 2), "b": DeathRecord(2, 1, 1)}


def test_a_finished_query_has_no_record(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.update_queries(REPLICA, {"a": 0, "b": 0}, [])
    client.coordinator.replica_started(RESTARTED)
    client.coordinator.update_queries(RESTARTED, {}, ["a"])
    assert client.coordinator.death_records().keys() == {"b"}


@pytest.mark.parametrize(
    ("completions", "deaths_alone"), [([0, 0, 0], 3), ([2, 2, 2], 3), ([2, 4, 6], 1), ([2, 1, 2], 3), ([1, 2, 2], 2)]
)
def test_a_query_that_makes_progress_does_not_count_as_dying_alone(
    tmp_path: Path, completions: list[int], deaths_alone: int
) -> None:
    coordinator = Coordinator(10, tmp_path / "state")
    for number, count in enumerate(completions):
        coordinator.update_queries(ReplicaId("actor-1", f"host:{number}"), {"a": count}, [])
        coordinator.replica_started(ReplicaId("actor-1", f"host:{number + 1}"))
    assert coordinator.death_records() == {"a": DeathRecord(len(completions), 1, deaths_alone)}


def test_deleting_the_state_leaves_no_file(tmp_path: Path) -> None:
    coordinator = Coordinator(10, tmp_path / "state")
    coordinator.update_queries(REPLICA, {"a": 0}, [])
    coordinator.delete_state()
    assert list(tmp_path.iterdir()) == []


class FakeHandle:
    """Stands in for Ray's handle of a coordinator: `report_arrivals.remote` returns or raises the scripted replies."""

    def __init__(self, replies: list[bool | Exception]) -> None:
        self.replies = replies
        self.report_arrivals = self

    async def remote(self, *_: object) -> bool:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def test_a_client_stops_reporting_once_the_input_has_ended() -> None:
    client = CoordinatorClient(REPLICA, FakeHandle([False, True]))
    for expected in (False, True, True):  # a third call fails: no reply is scripted
        await client.report_arrivals(1, 0)
        assert client.input_ended is expected


@pytest.mark.parametrize("error", [RayActorError(), TimeoutError()])
async def test_a_lost_report_is_repeated_by_the_next_one(error: Exception) -> None:
    client = CoordinatorClient(REPLICA, FakeHandle([error, True]))
    await client.report_arrivals(1, 0)
    assert not client.input_ended
    await client.report_arrivals(1, 0)
    assert client.input_ended


async def test_without_a_coordinator_no_deaths_are_known_and_the_input_never_ends() -> None:
    client = CoordinatorClient(REPLICA)
    assert await client.update_queries({"a": 0}, [])
    await client.report_arrivals(10**9, 0)
    assert (client.replica_started(), client.input_ended) == ({}, False)
