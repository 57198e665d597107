"""The counts and snapshots of the stats actor, without Ray."""

from collections import Counter
from typing import Any

import pytest

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.run import stats
from corpus_reranker.run.stats import StatsActor

FIRST, SECOND = ReplicaId("actor-1", "host:1"), ReplicaId("actor-1", "host:2")


@pytest.fixture
def stats_actor(monkeypatch: pytest.MonkeyPatch) -> StatsActor:
    """A stats actor in this process, without metrics."""

    class NoMetrics:
        def __init__(self, *_: Any) -> None: ...
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    monkeypatch.setattr(stats, "RunMetrics", NoMetrics)
    return StatsActor("r1", 10)


def test_a_restarted_process_replaces_its_predecessor(stats_actor: StatsActor) -> None:
    for replica in (FIRST, SECOND):
        stats_actor.replica_started(replica, 1.0)
        stats_actor.report(ReplicaReport(replica, 3, 4, 5), Counter(completions=7), {}, [])
    (snapshot,) = stats_actor.snapshot().replicas
    assert (snapshot.report.replica, snapshot.counts["completions"]) == (SECOND, 7)
    assert stats_actor.snapshot().counts["completions"] == 14


def test_a_replica_that_stops_reporting_disappears(stats_actor: StatsActor, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("corpus_reranker.run.stats.time.time", lambda: clock[0])
    stats_actor.report(ReplicaReport(FIRST), Counter(), {}, [])
    clock[0] += 59
    assert len(stats_actor.snapshot().replicas) == 1
    clock[0] += 2
    assert stats_actor.snapshot().replicas == ()


def test_a_start_failure_is_cleared_once_a_replica_starts(stats_actor: StatsActor) -> None:
    stats_actor.start_failed(FIRST, "EngineStartError: no such GPU")
    assert stats_actor.snapshot().start_failure == "EngineStartError: no such GPU"
    stats_actor.replica_started(FIRST, 1.0)
    assert stats_actor.snapshot().start_failure is None


def test_an_engine_death_is_counted_and_its_replica_removed(stats_actor: StatsActor) -> None:
    stats_actor.replica_started(FIRST, 1.0)
    stats_actor.engine_died(FIRST, "CUDA error")
    snapshot = stats_actor.snapshot()
    assert (snapshot.counts["engine_deaths"], snapshot.replicas) == (1, ())
    assert snapshot.recent_errors == ("replica host:1: CUDA error",)
