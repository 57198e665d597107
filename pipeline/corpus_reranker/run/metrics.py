"""Prometheus metrics of a run, exported by Ray from the process of the tally, which outlives every replica.

Ray puts `ray_` before each name and `_total` behind a counter's. Every metric has the label `run_id`. Ray sends them
on every few seconds: what is counted in a run's last ones may never be scraped, and the output's manifest is exact.
Retries of S3 requests are not among them: they happen inside the AWS SDK of pyarrow, which does not tell.
"""

from collections import Counter as Counts
from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

_LATENCY_SECONDS = [0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 1200, 1800]
"""A window of 3,000 reasoning tokens takes minutes; policy.window_timeout_seconds is 1800 by default."""

_WAIT_SECONDS = [0.01, 0.1, 1, 10, 60, 300, 1200]

PREFIX = "corpus_reranker_"


class RunMetrics:
    """One a run. Counters begin at zero with each start of the run."""

    def __init__(self, run_id: str, remaining: int) -> None:
        self._run = {"run_id": run_id}
        self._remaining = remaining
        run, by_status, of_replica = ("run_id",), ("run_id", "status"), ("run_id", "replica")
        self._by_status = {
            "queries": Counter(f"{PREFIX}queries", "Queries finished.", by_status),
            "windows": Counter(f"{PREFIX}windows", "Windows of finished queries, by how they were parsed.", by_status),
        }
        self._counters = {
            "completions": Counter(f"{PREFIX}completions", "Answers of the engine, retries included.", run),
            "prompt_tokens": Counter(f"{PREFIX}prompt_tokens", "Tokens read.", run),
            "output_tokens": Counter(f"{PREFIX}output_tokens", "Tokens written.", run),
            "cache_hits": Counter(f"{PREFIX}cache_hits", "Answers taken from the journal.", run),
            "cache_failures": Counter(f"{PREFIX}cache_failures", "Reads and writes of it that failed.", run),
            "engine_starts": Counter(f"{PREFIX}engine_starts", "Engines started, restarts included.", run),
            "engine_deaths": Counter(f"{PREFIX}engine_deaths", "Engines that died and said so.", run),
        }
        self._queries_in_flight = Gauge(f"{PREFIX}queries_in_flight", "Queries admitted, now.", of_replica)
        self._windows_in_flight = Gauge(f"{PREFIX}windows_in_flight", "Windows in the engine, now.", of_replica)
        self._target_windows_in_flight = Gauge(
            f"{PREFIX}target_windows_in_flight", "In flight where the engine is full.", of_replica
        )
        self._queries_remaining = Gauge(f"{PREFIX}queries_remaining", "Queries not finished.", run)
        self._seconds = {
            "window": Histogram(f"{PREFIX}window_seconds", "Of a window, attempts together.", _LATENCY_SECONDS, run),
            "wait": Histogram(f"{PREFIX}queue_wait_seconds", "Of a query at a full replica.", _WAIT_SECONDS, run),
        }
        self._queries_remaining.set(remaining, self._run)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add counts by the names the tally has for them, such as `windows_complete` and `output_tokens`."""
        for name, count in Counts(counts).items():
            kind, _, status = name.partition("_")
            if count > 0 and name in self._counters:
                self._counters[name].inc(count, self._run)
            elif count > 0 and kind in self._by_status:
                self._by_status[kind].inc(count, {**self._run, "status": status})
                self._remaining -= count if kind == "queries" else 0
        self._queries_remaining.set(self._remaining, self._run)

    def observe(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Add durations: of windows by the name `window`, of waits for a place by `wait`."""
        for name, values in seconds.items():
            for value in values:
                self._seconds[name].observe(value, self._run)

    def in_flight(self, replica: str, queries: int, windows: int, target_windows_in_flight: int) -> None:
        """What a replica has in flight now; zeros when it is gone."""
        labels = {**self._run, "replica": replica}
        self._queries_in_flight.set(queries, labels)
        self._windows_in_flight.set(windows, labels)
        self._target_windows_in_flight.set(target_windows_in_flight, labels)
