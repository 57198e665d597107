"""The stats actor: counts and loads of all replicas, for progress lines and metrics. It only observes."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.engines.prices import TokenPrices
from corpus_reranker.run.metrics import RunMetrics

_LOST_AFTER_SECONDS = 60.0
"""A replica without a report for this long is lost, and is no longer listed. A live replica reports every second."""


_ERRORS_KEPT = 5
"""Number of the last errors of all replicas that a snapshot has."""


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """A replica's last report, when it arrived (seconds since the epoch), and the counts of its process so far."""

    report: ReplicaReport
    seen_at: float
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """Counts over all replicas since the pass began, and the replicas' last reports, as of `at`.

    `starting` are the placed replicas whose engines are not started yet.
    """

    counts: Counter[str] = field(default_factory=Counter)
    replicas: tuple[ReplicaSnapshot, ...] = ()
    engine_start_seconds: tuple[float, ...] = ()
    recent_errors: tuple[str, ...] = ()
    start_failure: str | None = None
    starting: tuple[ReplicaId, ...] = ()
    at: float = 0.0


class StatsActor:
    """The stats actor of one pass of a run. If it is lost, only counts for progress and metrics are lost."""

    def __init__(self, run_id: str, remaining: int, reused: int = 0, prices: TokenPrices | None = None) -> None:
        self._metrics = RunMetrics(run_id, remaining, reused, prices)
        self._counts: Counter[str] = Counter()
        self._replicas: dict[str, ReplicaSnapshot] = {}
        self._engine_start_seconds: list[float] = []
        self._recent_errors: list[str] = []
        self._start_failure: str | None = None
        self._starting: dict[str, ReplicaId] = {}
        self._running: dict[str, ReplicaId] = {}

    def replica_placed(self, replica: ReplicaId) -> None:
        """Record a process whose engine starts now. If the actor had a running process before, that one has died."""
        if before := self._running.get(replica.actor_id):
            self.engine_died(before, "its process ended")
        self._starting[replica.actor_id] = replica

    def replica_started(self, replica: ReplicaId, seconds: float) -> None:
        """Record a started engine. Its process replaces the one that the same actor ran before."""
        self._engine_start_seconds.append(seconds)
        self._start_failure = None
        self._remove(replica.actor_id)
        self._starting.pop(replica.actor_id, None)
        self._running[replica.actor_id] = replica
        self._replicas[replica.actor_id] = ReplicaSnapshot(ReplicaReport(replica), time.time())
        self._metrics.count({"engine_starts": 1})

    def start_failed(self, replica: ReplicaId, reason: str) -> None:
        self._starting.pop(replica.actor_id, None)
        self._start_failure = reason

    def report(
        self, report: ReplicaReport, counts: Counter[str], seconds: Mapping[str, Sequence[float]], errors: list[str]
    ) -> None:
        """Record a replica's load, and its counts, durations and errors since its last report."""
        self._counts.update(counts)
        before = self._replicas.get(report.replica.actor_id)
        total = before.counts + counts if before else counts
        self._replicas[report.replica.actor_id] = ReplicaSnapshot(report, time.time(), total)
        self._add_errors(errors)
        self._metrics.count(counts)
        self._metrics.observe(seconds)
        self._metrics.in_flight(
            report.replica.process,
            report.queries_in_flight,
            report.windows_in_flight,
            report.target_windows_in_flight,
        )

    def engine_died(self, replica: ReplicaId, error: str) -> None:
        self._counts["engine_deaths"] += 1
        self._running.pop(replica.actor_id, None)
        self._remove(replica.actor_id)
        self._add_errors([f"replica {replica.process}: {error}"])
        self._metrics.count({"engine_deaths": 1})

    def snapshot(self) -> StatsSnapshot:
        now = time.time()
        for actor_id in [key for key, each in self._replicas.items() if each.seen_at < now - _LOST_AFTER_SECONDS]:
            self._remove(actor_id)
        return StatsSnapshot(
            self._counts,
            tuple(self._replicas.values()),
            tuple(self._engine_start_seconds),
            tuple(self._recent_errors),
            self._start_failure,
            tuple(self._starting.values()),
            now,
        )

    def _add_errors(self, errors: Sequence[str]) -> None:
        self._recent_errors = [*self._recent_errors, *errors][-_ERRORS_KEPT:]

    def _remove(self, actor_id: str) -> None:
        if removed := self._replicas.pop(actor_id, None):
            self._metrics.in_flight(removed.report.replica.process, 0, 0, 0)


@contextlib.contextmanager
def running_stats_actor(
    run_id: str, remaining: int, reused: int = 0, prices: TokenPrices | None = None
) -> Iterator["ActorHandle[StatsActor]"]:
    """Start a stats actor on the driver's node, because a GPU node may be a spot node and end before the run."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
    actor_class = ray.remote(StatsActor).options(**options)
    stats_actor: ActorHandle[StatsActor] = actor_class.remote(run_id, remaining, reused, prices)
    try:
        yield stats_actor
    finally:
        ray.kill(stats_actor)
