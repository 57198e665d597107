"""Counts of one replica, which it sends to the stats actor.

The stats actor only observes. No call here raises or waits long, so that a lost or restarting stats actor affects
only progress lines and metrics.
"""

from collections import Counter, defaultdict
from typing import Any

import ray

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.types import ANSWERED, Completion, RerankResult

_ERRORS_KEPT = 5
"""Maximum number of errors in one report. The progress shows the last few of all replicas."""


_LAST_CALL_SECONDS = 5.0
"""Timeout of a call before the process exits: Ray drops calls that it has not sent by then."""


class ReplicaStats:
    """Buffers counts, durations and errors, and sends them as the difference since the last report."""

    def __init__(self, replica: ReplicaId, stats_actor: Any = None) -> None:
        """`stats_actor` is a handle of a StatsActor; None discards everything."""
        self._replica = replica
        self._stats_actor = stats_actor
        self._counts: Counter[str] = Counter()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._errors: list[str] = []

    def count(self, name: str, amount: int = 1) -> None:
        self._counts[name] += amount

    def observe(self, name: str, seconds: float) -> None:
        """Record one duration: "window" or "queue_wait"."""
        self._seconds[name].append(seconds)

    def add_error(self, query_id: str, error: str) -> None:
        self._errors = [*self._errors, f"query {query_id}: {error}"][-_ERRORS_KEPT:]

    def count_completion(self, completion: Completion) -> None:
        self.count("completions")
        self.count("prompt_tokens", completion.prompt_tokens)
        self.count("output_tokens", completion.output_tokens)

    def plan_query(self, max_windows: int) -> None:
        """Count an admitted query and the requests that it will send, one for each window."""
        self.count("admitted_queries")
        self.count("planned_requests", max_windows)

    def count_windows(self, result: RerankResult, max_windows: int) -> None:
        """Count the windows of a finished query by status and by flag, with their latencies and errors.

        Its requests replace those that `plan_query` counted.
        """
        requests = sum(window.attempts for window in result.windows)
        self.count("finished_requests", requests)
        self.count("planned_requests", requests - max_windows)
        for window in result.windows:
            self.count(f"windows_{window.status}")
            for flag in window.flags:
                self.count(f"answers_{flag}")
            self.observe("window", window.latency_seconds)
            if window.status not in ANSWERED:
                self.add_error(result.query_id, window.error or window.status)

    def replica_placed(self) -> None:
        """Announce this process, before its engine starts."""
        if self._stats_actor is not None:
            self._stats_actor.replica_placed.remote(self._replica)

    def replica_started(self, seconds: float) -> None:
        if self._stats_actor is not None:
            self._stats_actor.replica_started.remote(self._replica, seconds)

    def start_failed(self, reason: str) -> None:
        """Send the reason and wait until it has arrived, because the process exits afterwards."""
        if self._stats_actor is not None:
            ray.wait([self._stats_actor.start_failed.remote(self._replica, reason)], timeout=_LAST_CALL_SECONDS)

    def engine_died(self, error: str) -> None:
        """Send the error and wait until it has arrived, because the process exits afterwards."""
        if self._stats_actor is not None:
            ray.wait([self._stats_actor.engine_died.remote(self._replica, error)], timeout=_LAST_CALL_SECONDS)

    def send(self, report: ReplicaReport) -> None:
        """Send `report` and everything recorded since the last call."""
        counts, seconds, errors = self._counts, dict(self._seconds), self._errors
        self._counts, self._seconds, self._errors = Counter(), defaultdict(list), []
        if self._stats_actor is not None:
            self._stats_actor.report.remote(report, counts, seconds, errors)
