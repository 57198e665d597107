"""Detects stalls from successive snapshots: replicas that hang, and a run that makes no progress or has no replica.

Time is counted in ticks between two snapshots. A tick counts at most twice the interval: a driver that was suspended
has missed the reports of that time, which does not mean that the replicas are silent.
"""

from collections.abc import Sequence

from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.run.stats import StatsSnapshot

_PROGRESS_COUNTS = ("completions", "cache_hits", "queries_")


class SilentReplicas:
    """Finds replicas that send no report for `timeout_seconds`."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._silent: dict[str, tuple[ReplicaId, float, float]] = {}

    def tick(self, snapshot: StatsSnapshot, seconds: float) -> list[tuple[ReplicaId, float]]:
        """Add `seconds`. Return each replica that reaches the timeout now, with the time since its last report."""
        for each in snapshot.replicas:
            replica = each.report.replica
            known, seen_at, _ = self._silent.get(replica.actor_id, (None, 0.0, 0.0))
            if replica != known or each.seen_at != seen_at:
                self._silent[replica.actor_id] = (replica, each.seen_at, -seconds)
        for starting in snapshot.starting:  # its process replaces a silent one
            self._silent.pop(starting.actor_id, None)
        silent = {key: (replica, seen, total + seconds) for key, (replica, seen, total) in self._silent.items()}
        hung = [(replica, total) for replica, _, total in silent.values() if total >= self._timeout_seconds]
        self._silent = {key: value for key, value in silent.items() if value[2] < self._timeout_seconds}
        return hung


class NoProgress:
    """Measures the time since the last completion, finished query or started engine."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: tuple[int, ...] = ()

    def tick(self, snapshot: StatsSnapshot, seconds: float) -> float:
        """Add `seconds` and return the time without progress."""
        counts = (sum(n for name, n in snapshot.counts.items() if name.startswith(key)) for key in _PROGRESS_COUNTS)
        current = (*counts, len(snapshot.engine_start_seconds))
        self.seconds = self.seconds + seconds if current == self._last else 0.0
        self._last = current
        return self.seconds


class NoReplica:
    """Measures the time during which no replica runs or starts on a live node."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def tick(self, snapshot: StatsSnapshot, live_nodes: Sequence[str], seconds: float) -> float:
        """Add `seconds` and return the time without a replica."""
        replicas = [*(each.report.replica for each in snapshot.replicas), *snapshot.starting]
        self.seconds = 0.0 if any(each.node_id in live_nodes for each in replicas) else self.seconds + seconds
        return self.seconds
