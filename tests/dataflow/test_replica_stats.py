"""The counts of a replica from which the progress tells how much is left."""

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.types import RerankResult, WindowOutcome
from helpers.stats_actor import FakeStatsActor

REPLICA = ReplicaId("actor-1", "host:1")


def test_the_requests_of_a_finished_query_replace_the_planned_ones() -> None:
    stats_actor = FakeStatsActor()
    stats = ReplicaStats(REPLICA, stats_actor)
    windows = tuple(WindowOutcome(0, 20, "complete", attempts, 1, 1, 0.1) for attempts in (1, 3))
    stats.plan_query(9)
    stats.plan_query(9)
    stats.count_windows(RerankResult("q", "complete", (0,), windows), 9)
    stats.send(ReplicaReport(REPLICA))
    expected = {"admitted_queries": 2, "planned_requests": 4 + 9, "finished_requests": 4, "windows_complete": 2}
    assert stats_actor.counts == expected
