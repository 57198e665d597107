"""Counts that replicas send to the driver while they work. For progress lines only: the summary reads the output."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import ray


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one replica last said of itself."""

    replica: str
    seen_at: float
    queries_in_flight: int = 0
    windows_in_flight: int = 0
    windows_wanted: int = 0
    """In flight, for the engine to be full."""
    engine_facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts over all replicas since the run began, and the replicas' last reports."""

    counts: Counter[str] = field(default_factory=Counter)
    replicas: tuple[ReplicaReport, ...] = ()
    engine_start_seconds: tuple[float, ...] = ()
    recent_errors: tuple[str, ...] = ()
    start_failure: str | None = None


@ray.remote(num_cpus=0, max_restarts=-1)
class Tally:
    """One a run, beside the driver. Losing it loses progress lines, nothing else."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._replicas: dict[str, ReplicaReport] = {}
        self._engine_start_seconds: list[float] = []
        self._recent_errors: list[str] = []
        self._deaths: Counter[str] = Counter()
        self._start_failure: str | None = None

    def started(self, replica: str, seconds: float) -> None:
        self._engine_start_seconds.append(seconds)
        self._start_failure = None
        self._replicas[replica] = ReplicaReport(replica, time.time())

    def start_failed(self, reason: str) -> None:
        self._start_failure = reason

    def report(self, report: ReplicaReport, counts: Counter[str], errors: list[str]) -> None:
        """`counts` and `errors` are those since the replica's last report."""
        self._counts.update(counts)
        self._replicas[report.replica] = report
        self._recent_errors = (self._recent_errors + errors)[-5:]

    def engine_died(self, replica: str, query_ids: list[str], error: str) -> None:
        self._counts["engine_deaths"] += 1
        self._deaths.update(query_ids)
        self._replicas.pop(replica, None)
        self._recent_errors = [*self._recent_errors, f"replica {replica}: {error}"][-5:]

    def deaths(self) -> dict[str, int]:
        """How many engine deaths each query was in flight at; queries that saw none are left out."""
        return dict(self._deaths)

    def progress(self) -> Progress:
        return Progress(
            self._counts,
            tuple(self._replicas.values()),
            tuple(self._engine_start_seconds),
            tuple(self._recent_errors),
            self._start_failure,
        )
