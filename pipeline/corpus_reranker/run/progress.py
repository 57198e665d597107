"""Progress of a live run: a log line every few seconds, and a file in the output folder."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.actor import ActorHandle

from corpus_reranker.formatting import counted, format_clock
from corpus_reranker.io.run_progress import ReplicaProgress, RunProgress
from corpus_reranker.io.spend import Spend, format_cost
from corpus_reranker.run.spend import SpendLedger
from corpus_reranker.run.stats import ReplicaSnapshot, StatsActor, StatsSnapshot

_RATE_SECONDS = 60.0
"""Rates and the ETA are means over the last minute. Means over the whole run would include the warm-up."""

_SAMPLES_KEPT = 1000
"""Samples of windows in flight over time. Beyond this number every second sample is dropped, which halves the
resolution of a long run."""


class ProgressReporter:
    """Context manager that reads the stats actor periodically, logs a line and publishes the progress."""

    def __init__(
        self,
        stats_actor: "ActorHandle[StatsActor]",
        total: int,
        done_before: int,
        interval_seconds: float,
        log: Callable[[str], None],
        publish: Callable[[RunProgress], None],
        *,
        reused: int = 0,
        ledger: SpendLedger | None = None,
    ) -> None:
        """Create a reporter that is not started yet.

        Args:
            stats_actor: Source of the counts.
            total: Queries of the input.
            done_before: Queries that earlier passes finished.
            interval_seconds: Time between two lines.
            log: Called with each log line.
            publish: Called with each progress; may raise.
            reused: Queries of `done_before` whose rows come from earlier outputs.
            ledger: Takes the billed counts and the GPU-hours. None: nothing is recorded.
        """
        self._ledger = ledger
        self._stats_actor = stats_actor
        self._total = total
        self._done_before = done_before
        self._reused = reused
        self._interval_seconds = interval_seconds
        self._log = log
        self._publish = publish
        self._stop = threading.Event()
        self._history: list[tuple[float, StatsSnapshot]] = []
        self._thread = threading.Thread(target=self._report_periodically, name="progress", daemon=True)
        self._started = time.monotonic()
        self._failed = 0
        self.last = StatsSnapshot()
        self.windows_in_flight: list[list[float]] = []
        """Samples: seconds since the start, windows in flight and their target, over all replicas."""

    def __enter__(self) -> "ProgressReporter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._stop.set()
        if kind is None or issubclass(kind, Exception):  # after a signal there is no time: SIGKILL follows in 3 s
            self._thread.join(timeout=10)
            self._report()

    def _report_periodically(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            self._report()

    def _report(self) -> None:
        try:
            snapshot: StatsSnapshot = ray.get(self._stats_actor.snapshot.remote(), timeout=5)
        except Exception as error:  # the stats actor restarts, or the cluster shuts down and the run reports that
            self._log(f"cannot read the progress: {type(error).__name__}")
            self._update_ledger(replace(self.last, at=time.time()))  # the replicas still hold their GPUs
            return
        self.last = snapshot
        now = time.monotonic()
        self._history = [entry for entry in self._history if entry[0] >= now - _RATE_SECONDS]
        self._history.append((now, snapshot))
        progress = compute_progress(self._history, self._total, self._done_before, self._reused)
        max_cost = self._ledger.max_cost if self._ledger else None
        progress = replace(progress, spend=self._update_ledger(snapshot), max_cost=max_cost)
        self._sample(now - self._started, progress)
        self._log(progress_line(progress))
        self._log_new_failures(progress)
        try:
            self._publish(progress)
        except Exception as error:  # the next report tries again
            self._log(f"cannot write the progress to the output: {error}")

    def _update_ledger(self, snapshot: StatsSnapshot) -> Spend | None:
        if self._ledger is None:
            return None
        try:
            self._ledger.update(snapshot)
        except Exception as error:  # the next report tries again
            self._log(f"cannot write the spend to the output: {error}")
        return self._ledger.total

    def _log_new_failures(self, progress: RunProgress) -> None:
        """Log the last error if more queries have failed since the last line."""
        failed = progress.counts.get("queries_failed", 0)
        if failed > self._failed and progress.recent_errors:
            self._log(f"last error: {progress.recent_errors[-1]}")
        self._failed = failed

    def _sample(self, seconds: float, progress: RunProgress) -> None:
        if progress.replicas:
            sample = [round(seconds, 1), progress.windows_in_flight, progress.target_windows_in_flight]
            self.windows_in_flight.append(sample)
        if len(self.windows_in_flight) > _SAMPLES_KEPT:
            self.windows_in_flight = self.windows_in_flight[::2]


def compute_progress(
    history: Sequence[tuple[float, StatsSnapshot]], total: int, done_before: int, reused: int = 0
) -> RunProgress:
    """Compute the progress from snapshots.

    Args:
        history: Pairs (seconds, snapshot), oldest first. Counts are the last snapshot's, rates are means between the
            first and the last.
        total: Queries of the input.
        done_before: Queries that earlier passes finished.
        reused: Queries of `done_before` whose rows come from earlier outputs.
    """
    (started, before), (ended, current) = history[0], history[-1]
    seconds = max(ended - started, 1e-9)
    rates = {name: max(current.counts[name] - before.counts[name], 0) / seconds for name in current.counts}
    queries_per_second = sum(rate for name, rate in rates.items() if name.startswith("queries_"))
    finished = sum(count for name, count in current.counts.items() if name.startswith("queries_"))
    done = min(done_before + finished, total)  # queries of a lost replica are finished twice
    counts_before = {each.report.replica: each.counts for each in before.replicas}
    return RunProgress(
        queries=total,
        done=done,
        reused=reused,
        queries_per_second=queries_per_second,
        windows_per_second=rates.get("completions", 0.0),
        output_tokens_per_second=rates.get("output_tokens", 0.0),
        eta_seconds=_eta_seconds(current, total - done, rates.get("requests", 0.0)),
        counts=dict(current.counts),
        replicas=tuple(
            _replica_progress(each, counts_before.get(each.report.replica, Counter()), seconds, current.at)
            for each in current.replicas
        ),
        replicas_starting=len(current.starting),
        recent_errors=current.recent_errors,
    )


def _eta_seconds(current: StatsSnapshot, remaining: int, requests_per_second: float) -> float | None:
    """Time for the requests of the remaining queries, from the mean number of requests of the admitted ones."""
    counts = current.counts
    if not remaining:
        return 0.0
    if not counts["admitted_queries"] or requests_per_second <= 0:
        return None
    requests_per_query = counts["planned_requests"] / counts["admitted_queries"]
    in_flight = sum(replica.report.queries_in_flight for replica in current.replicas)
    answered = max(counts["requests"] - counts["finished_requests"], 0)
    expected = in_flight * requests_per_query  # a lost replica's requests are sent again
    return max(remaining * requests_per_query - min(answered, expected), 0.0) / requests_per_second


def _replica_progress(
    replica: ReplicaSnapshot, counts_before: Counter[str], seconds: float, now: float
) -> ReplicaProgress:
    report = replica.report
    return ReplicaProgress(
        replica=report.replica.process,
        seconds_since_report=round(now - replica.seen_at, 1),
        queries_in_flight=report.queries_in_flight,
        windows_in_flight=report.windows_in_flight,
        target_windows_in_flight=report.target_windows_in_flight,
        windows_per_second=(replica.counts["completions"] - counts_before["completions"]) / seconds,
        output_tokens_per_second=(replica.counts["output_tokens"] - counts_before["output_tokens"]) / seconds,
    )


def progress_line(progress: RunProgress) -> str:
    """Format the progress as one log line."""
    done = f"{progress.done:,}/{progress.queries:,} queries"
    done += f", {progress.reused:,} of them reused" if progress.reused else ""
    starting = f"{progress.replicas_starting} starting"
    if not progress.replicas:
        return f"{done} | no replica yet: {starting if progress.replicas_starting else 'none has a node'}"
    silent = progress.replicas_silent
    replicas = counted(len(progress.replicas) - silent, "replica")
    replicas += f" and {silent} silent" if silent else ""
    replicas += f" and {starting}" if progress.replicas_starting else ""
    return (
        f"{done} | {replicas}, {counted(progress.windows_in_flight, 'window')} in flight"
        f" | {progress.windows_per_second:.1f} windows/s, {progress.output_tokens_per_second:,.0f} output tokens/s"
        f" | {progress.counts.get('windows_repaired', 0):,} repaired, {progress.windows_unanswered:,} unanswered"
        f" windows, {progress.counts.get('queries_failed', 0):,} failed queries"
        f"{_cache_failures(progress)}{_cost(progress)} | ETA {format_clock(progress.eta_seconds)}"
    )


def _cache_failures(progress: RunProgress) -> str:
    failures = progress.counts.get("cache_failures", 0)
    return f", {counted(failures, 'cache failure')}" if failures else ""


def _cost(progress: RunProgress) -> str:
    cost = None if progress.spend is None else progress.spend.cost
    limit = "" if progress.max_cost is None else f" of {format_cost(progress.max_cost)}"
    return "" if cost is None else f" | cost {format_cost(cost)}{limit}"
