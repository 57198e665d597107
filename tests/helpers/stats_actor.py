"""A stand-in for the handle of the stats actor, in this process and without Ray."""

from collections import Counter
from typing import Any

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport


class FakeStatsActor:
    """Keeps the sum of all reported counts, and the last report. `report.remote` stands in for Ray's call."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: ReplicaReport | None = None
        self.report = self.replica_placed = self.replica_started = self

    def remote(self, report: ReplicaReport | ReplicaId, counts: Any = None, *_: Any) -> None:
        if isinstance(report, ReplicaReport):
            self.counts.update(counts)
            self.last = report
