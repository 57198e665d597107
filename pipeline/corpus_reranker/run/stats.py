"""Counts that replicas send to the driver while they work. For progress and metrics: the summary reads the output."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corpus_reranker.run.metrics import RunMetrics

_LOST_AFTER_SECONDS = 60.0
"""A replica that has not reported for so long is not counted any more; a live one reports each second."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one replica last said of itself. `windows_wanted` are in flight where its engine is full.

    The tally adds when that was, by its own clock, and the replica's counts since it started.
    """

    replica: str
    queries_in_flight: int = 0
    windows_in_flight: int = 0
    target_windows_in_flight: int = 0
    engine_info: dict[str, Any] = field(default_factory=dict)
    seen_at: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """Counts over all replicas since the run began, and the replicas' last reports, as of `at`."""

    counts: Counter[str] = field(default_factory=Counter)
    replicas: tuple[ReplicaReport, ...] = ()
    engine_start_seconds: tuple[float, ...] = ()
    recent_errors: tuple[str, ...] = ()
    start_failure: str | None = None
    at: float = 0.0


@ray.remote(max_restarts=-1)
class StatsActor:
    """One a run. Losing it loses progress lines and metrics, nothing else."""

    def __init__(self, run_id: str, remaining: int) -> None:
        self._run_id = run_id
        self._remaining = remaining
        self._metrics = RunMetrics(run_id, remaining)
        self._counts: Counter[str] = Counter()
        self._replicas: dict[str, ReplicaReport] = {}
        self._engine_start_seconds: list[float] = []
        self._recent_errors: list[str] = []
        self._deaths: Counter[str] = Counter()
        self._start_failure: str | None = None

    def run_id(self) -> str:
        return self._run_id

    def started(self, replica: str, seconds: float) -> None:
        self._engine_start_seconds.append(seconds)
        self._start_failure = None
        self._replicas[replica] = ReplicaReport(replica, seen_at=time.time())
        self._metrics.count({"engine_starts": 1})

    def start_failed(self, reason: str) -> None:
        self._start_failure = reason

    def report(
        self, report: ReplicaReport, counts: Counter[str], seconds: Mapping[str, Sequence[float]], errors: list[str]
    ) -> bool:
        """Whether every query of the run has come to some replica.

        `counts`, `seconds` and `errors` are what is new since the replica's last report.
        """
        self._counts.update(counts)
        before = self._replicas.get(report.replica, report).counts
        self._replicas[report.replica] = replace(report, seen_at=time.time(), counts=before + counts)
        self._recent_errors = (self._recent_errors + errors)[-5:]
        self._metrics.count(counts)
        self._metrics.observe(seconds)
        self._metrics.in_flight(
            report.replica, report.queries_in_flight, report.windows_in_flight, report.target_windows_in_flight
        )
        return self._counts["arrived"] >= self._remaining  # those of a lost replica have arrived twice

    def engine_died(self, replica: str, query_ids: list[str], error: str) -> None:
        self._counts["engine_deaths"] += 1
        self._deaths.update(query_ids)
        self._replicas.pop(replica, None)
        self._recent_errors = [*self._recent_errors, f"replica {replica}: {error}"][-5:]
        self._metrics.count({"engine_deaths": 1})
        self._metrics.in_flight(replica, 0, 0, 0)

    def deaths(self) -> dict[str, int]:
        """How many engine deaths each query was in flight at; queries that saw none are left out."""
        return dict(self._deaths)

    def progress(self) -> StatsSnapshot:
        now = time.time()
        for lost in [each for each in self._replicas.values() if each.seen_at < now - _LOST_AFTER_SECONDS]:
            del self._replicas[lost.replica]
            self._metrics.in_flight(lost.replica, 0, 0, 0)
        return StatsSnapshot(
            self._counts,
            tuple(self._replicas.values()),
            tuple(self._engine_start_seconds),
            tuple(self._recent_errors),
            self._start_failure,
            now,
        )


def start_stats_actor(run_id: str, remaining: int) -> "ActorHandle[StatsActor]":
    """A tally on the driver's node, which lives as long as the run does; a node with a GPU may be a spot one."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    stats: ActorHandle[StatsActor] = StatsActor.options(num_cpus=0, scheduling_strategy=here).remote(run_id, remaining)  # type: ignore[attr-defined]
    return stats
