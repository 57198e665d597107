"""The coordinator's decisions, and that they survive its restart."""

from pathlib import Path

import pytest

from corpus_reranker.dataflow.coordinator import Coordinator
from corpus_reranker.dataflow.replica_report import ReplicaId

REPLICA = ReplicaId("actor-1", "host:1")
RESTARTED = ReplicaId("actor-1", "host:2")
OTHER = ReplicaId("actor-2", "host:3")


@pytest.fixture(params=["running", "restarted"])
def restarts(request: pytest.FixtureRequest) -> bool:
    """A test that takes this runs twice: with one coordinator, and with one that restarts before every call."""
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


def test_engine_deaths_are_counted_by_query_and_process(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.record_engine_death(REPLICA, ["a", "b"])
    client.coordinator.record_engine_death(REPLICA, ["a", "b"])  # Ray repeats a call whose answer was lost
    client.coordinator.record_engine_death(RESTARTED, ["b", "c"])
    client.coordinator.record_engine_death(OTHER, [])
    assert client.coordinator.engine_deaths() == {"a": 1, "b": 2, "c": 1}


def test_deleting_the_state_leaves_no_file(tmp_path: Path) -> None:
    coordinator = Coordinator(10, tmp_path / "state")
    coordinator.record_engine_death(REPLICA, ["a"])
    coordinator.delete_state()
    assert list(tmp_path.iterdir()) == []
