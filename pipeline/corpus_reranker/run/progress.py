"""StatsSnapshot a person can read, in a terminal as in a log file: one line every few seconds."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from corpus_reranker.io.run_progress import ReplicaProgress, RunProgress, duration
from corpus_reranker.run.stats import StatsActor, StatsSnapshot

_RATE_OVER_SECONDS = 60.0
"""Rates and the time to finish are those of the last minute: the run's mean would still carry the warm-up."""

_SAMPLES_AT_MOST = 1000
"""Of windows in flight over time. Beyond, every second one is dropped, so that a run of days keeps its picture."""


class ProgressLines:
    """Context manager that asks the tally every `every_seconds`, hands `say` a line and `publish` what it stands for.

    `total` counts the input's queries, `done_before` those that earlier runs finished.
    """

    def __init__(
        self,
        stats: "ActorHandle[StatsActor]",
        total: int,
        done_before: int,
        every_seconds: float,
        log: Callable[[str], None],
        publish: Callable[[RunProgress], None],
    ) -> None:
        self._stats = stats
        self._total = total
        self._done_before = done_before
        self._every_seconds = every_seconds
        self._log_line = log
        self._publish = publish
        self._stop = threading.Event()
        self._history: list[tuple[float, StatsSnapshot]] = []
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._began = time.monotonic()
        self.last = StatsSnapshot()
        self.in_flight: list[list[float]] = []
        """Seconds since the beginning, windows in flight and windows wanted there, over all replicas."""

    def __enter__(self) -> "ProgressLines":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._stop.set()
        if kind is None or issubclass(kind, Exception):  # after a signal there is no time: SIGKILL follows in 3 s
            self._thread.join(timeout=10)
            self._tick()

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self._tick()

    def _tick(self) -> None:
        try:
            progress: StatsSnapshot = ray.get(self._stats.progress.remote(), timeout=5)
        except Exception as error:  # the tally died or the cluster is going away; the run itself will say so
            self._log_line(f"no progress report: {type(error).__name__}")
            return
        self.last = progress
        now = time.monotonic()
        self._history = [entry for entry in self._history if entry[0] >= now - _RATE_OVER_SECONDS]
        self._history.append((now, progress))
        standing = run_progress(self._history, self._total, self._done_before)
        self._sample(now - self._began, standing)
        self._log_line(progress_line(standing))
        try:
            self._publish(standing)
        except Exception as error:  # a store that is away for a moment; the next one says it again
            self._log_line(f"progress not written to the output: {error}")

    def _sample(self, seconds: float, standing: RunProgress) -> None:
        if standing.replicas:
            self.in_flight.append([round(seconds, 1), standing.windows_in_flight, standing.target_windows_in_flight])
        if len(self.in_flight) > _SAMPLES_AT_MOST:
            self.in_flight = self.in_flight[::2]


def run_progress(history: Sequence[tuple[float, StatsSnapshot]], total: int, done_before: int) -> RunProgress:
    """Counts of the last entry of `history`, (seconds, progress) each, and rates between the first and the last."""
    (then, before), (now, current) = history[0], history[-1]
    seconds = max(now - then, 1e-9)
    rates = {name: (current.counts[name] - before.counts[name]) / seconds for name in current.counts}
    queries_per_second = sum(rate for name, rate in rates.items() if name.startswith("queries_"))
    done = done_before + sum(count for name, count in current.counts.items() if name.startswith("queries_"))
    counts_before = {replica.replica: replica.counts for replica in before.replicas}
    return RunProgress(
        queries=total,
        done=done,
        queries_per_second=queries_per_second,
        windows_per_second=rates.get("completions", 0.0),
        output_tokens_per_second=rates.get("output_tokens", 0.0),
        eta_seconds=(total - done) / queries_per_second if queries_per_second > 0 else None,
        counts=dict(current.counts),
        replicas=tuple(
            ReplicaProgress(
                replica.replica,
                round(current.at - replica.seen_at, 1),
                replica.queries_in_flight,
                replica.windows_in_flight,
                replica.target_windows_in_flight,
                *(
                    (replica.counts[name] - counts_before.get(replica.replica, Counter())[name]) / seconds
                    for name in ("completions", "output_tokens")
                ),
            )
            for replica in current.replicas
        ),
        recent_errors=current.recent_errors,
    )


def progress_line(standing: RunProgress) -> str:
    """One line of where the run stands."""
    if not standing.replicas:
        return f"{standing.done:,}/{standing.queries:,} queries | no replica yet: engines are starting"
    counts = standing.counts
    return (
        f"{standing.done:,}/{standing.queries:,} queries"
        f" | {len(standing.replicas)} replicas, {standing.windows_in_flight} windows in flight"
        f" | {standing.windows_per_second:.1f} windows/s, {standing.output_tokens_per_second:,.0f} output tokens/s"
        f" | {counts.get('windows_repaired', 0):,} repaired, {standing.windows_unanswered:,} unanswered windows,"
        f" {counts.get('queries_failed', 0):,} failed queries"
        f" | ETA {duration(standing.eta_seconds)}"
    )
