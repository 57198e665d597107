"""Schedules for one engine, compared by discrete-event simulation with the cost model of the simulated engine.

    python tests/benchmarks/scheduling_study.py [--queries 600 --queries 2048]

Deterministic; takes a minute of one core. It compares the number of windows in flight, the order of windows, and the
admission at the end of a run. peers.py measures the job itself in real time.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Annotated, Any

import typer
from workload import report

from corpus_reranker.engines.batch_model import Batch, BatchCosts, SimulatedSequence
from corpus_reranker.engines.simulated import SimulatedSettings

SETTINGS = SimulatedSettings(kind="simulated")
PROMPT_TOKENS = 5690
WINDOWS = 9
CAPACITY = 147
"""Windows that fit in the KV cache: 950,000 / (5,690 + 750). The cost model reserves the whole output."""

Order = Callable[[int, int], int]
"""Sort key of a window, from the remaining windows of its query and its arrival number."""

ORDERS: dict[str, Order] = {
    "by arrival": lambda remaining, arrival: arrival,
    "later windows first": lambda remaining, arrival: remaining,
    "longest chain first": lambda remaining, arrival: -remaining,
}


def output_tokens(queries: int, seed: int = 0) -> list[list[int]]:
    """Output tokens of the windows of each query."""
    rng, sigma = random.Random(seed), SETTINGS.output_tokens_sigma
    mean = math.log(SETTINGS.output_tokens_mean) - sigma**2 / 2
    return [[max(1, min(3172, round(rng.lognormvariate(mean, sigma)))) for _ in range(WINDOWS)] for _ in range(queries)]


def new_batch() -> Batch:
    return Batch(BatchCosts(**{name: getattr(SETTINGS, name) for name in BatchCosts.__dataclass_fields__}))


def lockstep(lengths: list[list[int]], size: int = 512) -> dict[str, Any]:
    """Process batches of queries window by window: the next window starts after the last completion of the batch."""
    batch, now = new_batch(), 0.0
    for first, window in itertools.product(range(0, len(lengths), size), range(WINDOWS)):
        waiting = [
            batch.submit(now, SimulatedSequence(PROMPT_TOKENS, each[window])) for each in lengths[first : first + size]
        ]
        while waiting:
            now = batch.next_event() or now
            waiting = waiting[len(batch.advance(now)) :]
    return {"seconds": now, "running": batch.totals.running_seconds / now}


def chains(
    lengths: list[list[int]], queries: int, windows: int, order: Order = ORDERS["by arrival"], last: int = 0
) -> dict[str, Any]:
    """Run at most `queries` queries and `windows` windows at once. Admit the `last` queries together, longest first."""
    batch, now, arrivals = new_batch(), 0.0, itertools.count()
    unstarted, done = list(enumerate(lengths))[::-1], [0] * len(lengths)
    ready: list[tuple[int, int, int]] = []
    running: dict[int, int] = {}
    started: dict[int, float] = {}
    query_seconds: list[float] = []
    while len(query_seconds) < len(lengths):
        ending = len(unstarted) <= last
        key = ORDERS["longest chain first"] if ending else order
        while unstarted and (ending or len(started) - len(query_seconds) < queries):
            query = unstarted.pop()[0]
            started[query] = now
            heapq.heappush(ready, (key(WINDOWS, arrival := next(arrivals)), arrival, query))
        while ready and len(running) < windows:
            query = heapq.heappop(ready)[2]
            running[batch.submit(now, SimulatedSequence(PROMPT_TOKENS, lengths[query][done[query]]))] = query
        now = max(now, batch.next_event() or now)
        for ticket, _ in batch.advance(now):
            query = running.pop(ticket)
            done[query] += 1
            if done[query] == WINDOWS:
                query_seconds.append(now - started[query])
            else:
                heapq.heappush(ready, (key(WINDOWS - done[query], arrival := next(arrivals)), arrival, query))
    return {
        "seconds": now,
        "running": batch.totals.running_seconds / now,
        "query_mean_seconds": sum(query_seconds) / len(query_seconds),
        "query_max_seconds": max(query_seconds),
    }


def study(queries: int) -> list[dict[str, Any]]:
    """Figures of every schedule for `queries` queries."""
    lengths = output_tokens(queries)
    all_windows = [[length] for each in lengths for length in each]
    batch = new_batch()
    for [length] in all_windows:
        batch.submit(0.0, SimulatedSequence(PROMPT_TOKENS, length))
    now = 0.0
    while (event := batch.next_event()) is not None:
        now = event
        batch.advance(now)
    schedules: dict[str, dict[str, Any]] = {
        "all windows at once (no chains)": {"seconds": now, "running": batch.totals.running_seconds / now},
        "lockstep of 512": lockstep(lengths),
        "all queries at once": chains(lengths, queries, queries),
    }
    for percent in (0, 6, 12.5, 25, 50):
        in_flight = round(CAPACITY * (1 + percent / 100))
        schedules[f"{percent:g}% more in flight than the capacity"] = chains(lengths, in_flight, in_flight)
    in_flight = round(CAPACITY * 1.125)
    for name, order in ORDERS.items():
        schedules[f"50% more queries than slots, {name}"] = chains(lengths, round(in_flight * 1.5), in_flight, order)
    for last in (in_flight // 2, in_flight):
        schedules[f"12.5% more, the last {last} at once"] = chains(lengths, in_flight, in_flight, last=last)
    limit_seconds = schedules["all windows at once (no chains)"]["seconds"]
    blank = {"query_mean_seconds": float("nan"), "query_max_seconds": float("nan")}
    return [
        {"queries": queries, "schedule": name, "of_the_limit": limit_seconds / figures["seconds"], **blank, **figures}
        for name, figures in schedules.items()
    ]


def main(
    queries: Annotated[list[int], typer.Option(help="May be repeated.")] = [600, 2048],  # noqa: B006
) -> None:
    """Print the speed of each schedule relative to the engine's limit."""
    rows = [row for count in queries for row in study(count)]
    report(
        "scheduling_study", rows, "cost model of the simulated engine, 5,690 prompt and 750 output tokens per window"
    )


if __name__ == "__main__":
    typer.run(main)
