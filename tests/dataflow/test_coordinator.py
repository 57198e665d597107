"""The decisions of the coordinator, which survive its restart."""

from pathlib import Path

import pytest
from ray.exceptions import RayActorError

from corpus_reranker.dataflow.coordinator import Coordinator, CoordinatorClient
from corpus_reranker.dataflow.poison_query import DeathRecord, ReplicaHistory
from corpus_reranker.dataflow.replica import ReplicaId

REPLICA = ReplicaId("actor-1", "host:1")
RESTARTED = ReplicaId("actor-1", "host:2")
THIRD = ReplicaId("actor-1", "host:4")
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


def test_the_costs_of_all_processes_count_to_the_limit(tmp_path: Path, restarts: bool) -> None:
    running = Coordinator(10, tmp_path / "state", max_cost=10.0)

    def report(replica: ReplicaId, cost: float) -> bool:
        coordinator = Coordinator(10, tmp_path / "state", max_cost=10.0) if restarts else running
        return coordinator.report_cost(replica, cost)

    assert not report(REPLICA, 4.0)
    assert not report(REPLICA, 5.0)
    assert not report(RESTARTED, 2.0)
    assert report(OTHER, 3.0)
    assert report(REPLICA, 5.0)
    assert not Coordinator(10, tmp_path / "another").report_cost(REPLICA, 1e9)


def test_an_unknown_number_of_queries_never_ends(tmp_path: Path) -> None:
    assert not Coordinator(None, tmp_path / "state").report_arrivals(REPLICA, 10**9, 0)


def test_every_query_in_flight_at_a_death_is_counted_once(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.replica_started(REPLICA)
    client.coordinator.update_queries(REPLICA, {"a": 0, "b": 0, "c": 0}, [])
    client.coordinator.update_queries(OTHER, {"d": 0}, [])
    client.coordinator.update_queries(REPLICA, {}, ["c"])
    for _ in range(2):  # Ray repeats a call whose reply was lost
        history = client.coordinator.replica_started(RESTARTED)
        assert history == ReplicaHistory({"a": DeathRecord(1, 2), "b": DeathRecord(1, 2)}, None, 1, 1)
    client.coordinator.update_queries(RESTARTED, {"b": 0}, [])
    history = client.coordinator.replica_started(THIRD)
    assert history == ReplicaHistory({"a": DeathRecord(1, 2), "b": DeathRecord(2, 1)}, "b", 2, 2)


def test_a_finished_query_has_no_record(tmp_path: Path, restarts: bool) -> None:
    client = Client(10, tmp_path / "state", restarts)
    client.coordinator.replica_started(REPLICA)
    client.coordinator.update_queries(REPLICA, {"a": 0, "b": 0}, [])
    client.coordinator.replica_started(RESTARTED)
    client.coordinator.update_queries(RESTARTED, {}, ["a"])
    assert client.coordinator.replica_started(RESTARTED).records.keys() == {"b"}


class ReplicaProcesses:
    """Processes of one replica, each of which runs the query "a" alone until it dies."""

    def __init__(self, state_path: Path) -> None:
        self.coordinator = Coordinator(10, state_path)
        self.deaths = 0
        self.history = self.coordinator.replica_started(self.replica)

    @property
    def replica(self) -> ReplicaId:
        return ReplicaId("actor-1", f"host:{self.deaths}")

    def die(self, completions: int, before: str | None = None) -> ReplicaHistory:
        """Run `before` to its end, then "a" up to `completions`, and start the next process."""
        if before:
            self.coordinator.update_queries(self.replica, {before: 0}, [])
        for count in range(completions + 1):
            self.coordinator.update_queries(self.replica, {"a": count}, [before] if before else [])
        self.deaths += 1
        return self.coordinator.replica_started(self.replica)


@pytest.mark.parametrize(
    ("completions", "solo_deaths"),
    [([0, 0, 0], 2), ([2, 2, 2], 2), ([1, 2, 3, 4], 0), ([2, 1, 2, 1], 3), ([0, 0, 1, 1, 1], 2)],
)
def test_a_solo_death_counts_if_the_query_got_no_further_than_before(
    tmp_path: Path, completions: list[int], solo_deaths: int
) -> None:
    processes = ReplicaProcesses(tmp_path / "state")
    histories = [processes.die(count) for count in completions]
    assert [history.solo_query for history in histories] == ["a"] * len(completions)
    assert histories[-1].records["a"] == DeathRecord(len(completions), 1, solo_deaths)


def test_a_death_after_another_query_ran_is_no_solo_death(tmp_path: Path) -> None:
    processes = ReplicaProcesses(tmp_path / "state")
    histories = [processes.die(0, before=f"before-{number}") for number in range(5)]
    assert histories[-1].records["a"] == DeathRecord(5, 1)


def test_a_solo_query_that_did_not_arrive_stays_the_next_one(tmp_path: Path) -> None:
    processes = ReplicaProcesses(tmp_path / "state")
    processes.die(0)
    processes.deaths += 1
    assert processes.coordinator.replica_started(processes.replica).solo_query == "a"
    assert processes.die(0).records["a"] == DeathRecord(2, 1, 1)


def test_progress_after_solo_deaths_shows_that_the_engine_was_at_fault(tmp_path: Path) -> None:
    processes = ReplicaProcesses(tmp_path / "state")
    for _ in range(3):
        history = processes.die(0)
    assert (history.deaths_without_progress, history.refuted_solo_deaths) == (3, 0)
    history = processes.die(1)
    assert (history.deaths_without_progress, history.refuted_solo_deaths) == (1, 2)
    assert processes.coordinator.replica_started(OTHER).refuted_solo_deaths == 0


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
    assert (client.replica_started(), client.input_ended) == (ReplicaHistory(), False)
