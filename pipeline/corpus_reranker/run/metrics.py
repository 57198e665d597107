"""Prometheus metrics of a run, exported by Ray from the stats actor's process, which outlives every replica.

Ray prefixes every name with `ray_` and appends `_total` to counters. Every metric has the label `run_id`. Ray exports
every few seconds, so counts of the last seconds of a run may never be scraped; the output's manifest is exact.
Retries of S3 requests are not counted: they happen inside pyarrow's AWS SDK, which does not report them.
"""

from collections import Counter as Counts
from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from corpus_reranker.engines.prices import TokenPrices

_LATENCY_SECONDS = [0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 1200, 1800]
"""A window of 3,000 reasoning tokens takes minutes; policy.window_timeout_seconds is 1800 by default."""

_QUEUE_WAIT_SECONDS = [0.01, 0.1, 1, 10, 60, 300, 1200]

PREFIX = "corpus_reranker_"


class RunMetrics:
    """The metrics of one pass of a run. Counters start at zero."""

    def __init__(self, run_id: str, remaining: int, reused: int = 0, prices: TokenPrices | None = None) -> None:
        """`remaining` queries are left for the pass to rerank; `reused` have a row of an earlier output."""
        self._prices = prices
        self._run = {"run_id": run_id}
        self._remaining = remaining
        run, by_status, by_replica = ("run_id",), ("run_id", "status"), ("run_id", "replica")
        self._by_status = {
            "queries": Counter(f"{PREFIX}queries", "Finished queries by status.", by_status),
            "windows": Counter(f"{PREFIX}windows", "Windows of finished queries by status.", by_status),
        }
        self._answers = Counter(f"{PREFIX}answers", "Answers of finished queries by flag.", ("run_id", "flag"))
        self._counters = {
            "completions": Counter(f"{PREFIX}completions", "Completions of the engine, retries included.", run),
            "prompt_tokens": Counter(f"{PREFIX}prompt_tokens", "Prompt tokens of all completions.", run),
            "output_tokens": Counter(f"{PREFIX}output_tokens", "Output tokens of all completions.", run),
            "cache_hits": Counter(f"{PREFIX}cache_hits", "Completions found in the completion cache.", run),
            "cache_failures": Counter(f"{PREFIX}cache_failures", "Failed reads and writes of the cache.", run),
            "billed_prompt_tokens": Counter(
                f"{PREFIX}billed_prompt_tokens", "Prompt tokens that an endpoint billed, cached ones included.", run
            ),
            "billed_cached_prompt_tokens": Counter(
                f"{PREFIX}billed_cached_prompt_tokens", "Billed prompt tokens in the endpoint's cache.", run
            ),
            "billed_output_tokens": Counter(
                f"{PREFIX}billed_output_tokens", "Output tokens that an endpoint billed.", run
            ),
            "requests_refused": Counter(
                f"{PREFIX}requests_refused", "Requests that an endpoint refused as too busy (429, 503).", run
            ),
            "requests_lost": Counter(
                f"{PREFIX}requests_lost", "Requests to an endpoint that failed otherwise and were sent again.", run
            ),
            "engine_starts": Counter(f"{PREFIX}engine_starts", "Engine starts, restarts included.", run),
            "engine_deaths": Counter(f"{PREFIX}engine_deaths", "Engine deaths that a replica reported.", run),
        }
        self._cost = Counter(f"{PREFIX}cost", "Price of the billed tokens, by engine.prices.", run)
        self._queries_in_flight = Gauge(f"{PREFIX}queries_in_flight", "Admitted queries.", by_replica)
        self._windows_in_flight = Gauge(f"{PREFIX}windows_in_flight", "Windows in the engine.", by_replica)
        self._target_windows_in_flight = Gauge(
            f"{PREFIX}target_windows_in_flight", "Windows at which the engine is full.", by_replica
        )
        self._queries_remaining = Gauge(f"{PREFIX}queries_remaining", "Queries not finished.", run)
        self._queries_reused = Gauge(f"{PREFIX}queries_reused", "Queries copied from earlier outputs.", run)
        self._seconds = {
            "window": Histogram(f"{PREFIX}window_seconds", "Window latency over all attempts.", _LATENCY_SECONDS, run),
            "queue_wait": Histogram(
                f"{PREFIX}queue_wait_seconds", "Wait of a query for a slot of its replica.", _QUEUE_WAIT_SECONDS, run
            ),
        }
        self._queries_remaining.set(remaining, self._run)
        self._queries_reused.set(reused, self._run)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add counts by the stats actor's names, such as `windows_complete` and `output_tokens`."""
        for name, count in Counts(counts).items():
            kind, _, status = name.partition("_")
            if count > 0 and name in self._counters:
                self._counters[name].inc(count, self._run)
            elif count > 0 and kind == "answers":
                self._answers.inc(count, {**self._run, "flag": status})
            elif count > 0 and kind in self._by_status:
                self._by_status[kind].inc(count, {**self._run, "status": status})
                self._remaining -= count if kind == "queries" else 0
        self._queries_remaining.set(max(self._remaining, 0), self._run)
        if self._prices is not None and (cost := self._prices.cost(counts)) > 0:
            self._cost.inc(cost, self._run)

    def observe(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Add durations: window latencies as `window`, waits for a query slot as `queue_wait`."""
        for name, values in seconds.items():
            for value in values:
                self._seconds[name].observe(value, self._run)

    def in_flight(self, replica: str, queries: int, windows: int, target_windows: int) -> None:
        """Set the load of a replica. A dead replica has a load of zero."""
        labels = {**self._run, "replica": replica}
        self._queries_in_flight.set(queries, labels)
        self._windows_in_flight.set(windows, labels)
        self._target_windows_in_flight.set(target_windows, labels)
