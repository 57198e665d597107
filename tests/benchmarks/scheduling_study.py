"""Ways to keep one engine full, without a clock: the cost model of the simulated engine, event by event.

    python tests/benchmarks/scheduling_study.py [--queries 600 --queries 2048]

Deterministic, a minute of one core. It answers what to build: how many windows to keep in flight, which window goes
first, what to do about the end of a run. What was built is then measured by peers.py, with the clock running.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Annotated, Any

import typer
from workload import report

from corpus_reranker.engines.batch_model import Batch, BatchCosts, Sequence
from corpus_reranker.engines.simulated import SimulatedSettings

SETTINGS = SimulatedSettings(kind="simulated")
PROMPT_TOKENS = 5690
WINDOWS = 9
HELD = 147
"""Windows that fit the KV cache at once: 950,000 / (5,690 + 750), the model reserving whole outputs."""

Order = Callable[[int, int], int]
"""From windows left in the chain and arrival to what sorts first."""

ORDERS: dict[str, Order] = {
    "as they come": lambda left, arrival: arrival,
    "later windows first": lambda left, arrival: left,
    "longest chain first": lambda left, arrival: -left,
}


def output_tokens(queries: int, seed: int = 0) -> list[list[int]]:
    """Of each query's windows."""
    rng, sigma = random.Random(seed), SETTINGS.output_tokens_sigma
    mean = math.log(SETTINGS.output_tokens_mean) - sigma**2 / 2
    return [[max(1, min(3172, round(rng.lognormvariate(mean, sigma)))) for _ in range(WINDOWS)] for _ in range(queries)]


def new_batch() -> Batch:
    return Batch(BatchCosts(**{name: getattr(SETTINGS, name) for name in BatchCosts.__dataclass_fields__}))


def lockstep(lengths: list[list[int]], size: int = 512) -> dict[str, Any]:
    """Batches of queries, one window of all of them after the other."""
    batch, now = new_batch(), 0.0
    for first, window in itertools.product(range(0, len(lengths), size), range(WINDOWS)):
        waiting = [batch.submit(now, Sequence(PROMPT_TOKENS, each[window])) for each in lengths[first : first + size]]
        while waiting:
            now = batch.next_event() or now
            waiting = waiting[len(batch.advance(now)) :]
    return {"seconds": now, "running": batch.totals.running_seconds / now}


def chains(
    lengths: list[list[int]], queries: int, windows: int, order: Order = ORDERS["as they come"], last: int = 0
) -> dict[str, Any]:
    """At most `queries` chains at once and `windows` in the engine. The `last` are let in at once, longest first."""
    batch, now, arrivals = new_batch(), 0.0, itertools.count()
    unstarted, done = list(enumerate(lengths))[::-1], [0] * len(lengths)
    ready: list[tuple[int, int, int]] = []
    running: dict[int, int] = {}
    started: dict[int, float] = {}
    took: list[float] = []
    while len(took) < len(lengths):
        ending = len(unstarted) <= last
        key = ORDERS["longest chain first"] if ending else order
        while unstarted and (ending or len(started) - len(took) < queries):
            query = unstarted.pop()[0]
            started[query] = now
            heapq.heappush(ready, (key(WINDOWS, arrival := next(arrivals)), arrival, query))
        while ready and len(running) < windows:
            query = heapq.heappop(ready)[2]
            running[batch.submit(now, Sequence(PROMPT_TOKENS, lengths[query][done[query]]))] = query
        now = max(now, batch.next_event() or now)
        for ticket, _ in batch.advance(now):
            query = running.pop(ticket)
            done[query] += 1
            if done[query] == WINDOWS:
                took.append(now - started[query])
            else:
                heapq.heappush(ready, (key(WINDOWS - done[query], arrival := next(arrivals)), arrival, query))
    return {
        "seconds": now,
        "running": batch.totals.running_seconds / now,
        "query_mean_seconds": sum(took) / len(took),
        "query_max_seconds": max(took),
    }


def study(queries: int) -> list[dict[str, Any]]:
    """Every way, for so many queries."""
    lengths = output_tokens(queries)
    everything = [[length] for each in lengths for length in each]
    batch = new_batch()
    for [length] in everything:
        batch.submit(0.0, Sequence(PROMPT_TOKENS, length))
    now = 0.0
    while (event := batch.next_event()) is not None:
        now = event
        batch.advance(now)
    ways: dict[str, dict[str, Any]] = {
        "all windows at once (no chains)": {"seconds": now, "running": batch.totals.running_seconds / now},
        "lockstep of 512": lockstep(lengths),
        "all queries at once": chains(lengths, queries, queries),
    }
    for spare in (0, 6, 12.5, 25, 50):
        most = round(HELD * (1 + spare / 100))
        ways[f"{spare:g}% more in flight than held"] = chains(lengths, most, most)
    most = round(HELD * 1.125)
    for name, order in ORDERS.items():
        ways[f"50% more queries than places, {name}"] = chains(lengths, round(most * 1.5), most, order)
    for last in (most // 2, most):
        ways[f"12.5% more, the last {last} side by side"] = chains(lengths, most, most, last=last)
    least = ways["all windows at once (no chains)"]["seconds"]
    blank = {"query_mean_seconds": float("nan"), "query_max_seconds": float("nan")}
    return [
        {"queries": queries, "way": way, "of_the_most": least / figures["seconds"], **blank, **figures}
        for way, figures in ways.items()
    ]


def main(queries: Annotated[list[int], typer.Option(help="Give it several times.")] = [600, 2048]) -> None:  # noqa: B006
    """Print what each way reaches of the most the engine can do."""
    rows = [row for count in queries for row in study(count)]
    report("scheduling_study", rows, "cost model of the simulated engine, 5,690 prompt and 750 output tokens a window")


if __name__ == "__main__":
    typer.run(main)
