"""Hanging replicas, runs without progress and runs without a replica are found from successive snapshots."""

from collections import Counter

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.run.stalls import NoProgress, NoReplica, SilentReplicas
from corpus_reranker.run.stats import ReplicaSnapshot, StatsSnapshot

FIRST, RESTARTED, OTHER = (
    ReplicaId("actor-1", "host:1", "node-1"),
    ReplicaId("actor-1", "host:2", "node-1"),
    ReplicaId("actor-2", "host:3", "node-2"),
)


def snapshot(seen_at: dict[ReplicaId, float], *starting: ReplicaId, starts: int = 0, **counts: int) -> StatsSnapshot:
    replicas = tuple(ReplicaSnapshot(ReplicaReport(replica), at) for replica, at in seen_at.items())
    return StatsSnapshot(Counter(counts), replicas, (1.0,) * starts, starting=starting)


def test_a_replica_that_stops_reporting_is_found_once() -> None:
    silent = SilentReplicas(10.0)
    assert silent.tick(snapshot({FIRST: 100.0, OTHER: 100.0}), 5.0) == []
    assert silent.tick(snapshot({FIRST: 100.0, OTHER: 104.0}), 5.0) == []
    assert silent.tick(snapshot({OTHER: 110.0}), 5.0) == [(FIRST, 10.0)]  # the stats actor has forgotten it
    assert silent.tick(snapshot({OTHER: 115.0}), 5.0) == []


def test_a_replica_whose_actor_has_a_new_process_is_not_silent() -> None:
    silent = SilentReplicas(10.0)
    silent.tick(snapshot({FIRST: 100.0}), 5.0)
    silent.tick(snapshot({FIRST: 100.0}, RESTARTED), 5.0)
    assert silent.tick(snapshot({}, RESTARTED), 5.0) == []
    assert silent.tick(snapshot({RESTARTED: 112.0}), 5.0) == []


def test_only_completions_queries_and_engine_starts_are_progress() -> None:
    progress = NoProgress()
    assert progress.tick(snapshot({}), 5.0) == 0.0
    assert progress.tick(snapshot({}, cache_failures=3), 5.0) == 5.0
    assert progress.tick(snapshot({}, completions=1), 5.0) == 0.0
    assert progress.tick(snapshot({}, completions=1, queries_failed=1), 5.0) == 0.0
    assert progress.tick(snapshot({}, starts=1, completions=1, queries_failed=1), 5.0) == 0.0
    assert progress.tick(snapshot({FIRST: 7.0}, starts=1, completions=1, queries_failed=1), 5.0) == 5.0


def test_replicas_of_lost_nodes_do_not_count() -> None:
    replica = NoReplica()
    assert replica.tick(snapshot({}), ["node-1"], 5.0) == 5.0
    assert replica.tick(snapshot({}, OTHER), ["node-1"], 5.0) == 10.0
    assert replica.tick(snapshot({}, FIRST), ["node-1"], 5.0) == 0.0
    assert replica.tick(snapshot({FIRST: 100.0}), ["node-1"], 5.0) == 0.0
    assert replica.tick(snapshot({FIRST: 100.0}), ["node-2"], 5.0) == 5.0
