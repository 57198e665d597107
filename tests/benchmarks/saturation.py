"""The job on one replica against the same prompts given to the same engine all at once, by hand.

    python tests/benchmarks/saturation.py [--queries 2000] [--speedup 40]

Simulated engine, ReasonRank-like lengths. Windows/s are over the engine's simulated time from its first request to its
last completion: its start is not counted, whatever Ray and the chains of windows cost in between is, `speedup` times.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from workload import REASONRANK_LENGTHS, ask_at_once, job, record_prompts, report, run_job, write_candidates


def in_flight_fraction(samples: list[list[float]]) -> float:
    """Mean of windows in flight / wanted over the middle 80% of the run's time."""
    begin, end = samples[0][0], samples[-1][0]
    tenth = (end - begin) / 10
    middle = [(now / wanted) for seconds, now, wanted in samples if begin + tenth <= seconds <= end - tenth and wanted]
    return sum(middle) / len(middle)


def figures(way: str, facts: dict[str, Any], base: float | None = None) -> dict[str, Any]:
    rate = facts["requests"] / facts["simulated_seconds"]
    return {
        "way": way,
        "windows": facts["requests"],
        "simulated_seconds": facts["simulated_seconds"],
        "windows_per_second": rate,
        "mean_running": facts["mean_running"],
        "mean_waiting": facts["mean_waiting"],
        "ratio": rate / (base or rate),
    }


def main(
    queries: Annotated[int, typer.Option(help="100 candidates each, 9 windows.")] = 2000,
    speedup: Annotated[float, typer.Option(help="Simulated seconds a second.")] = 40.0,
) -> None:
    """Print the ratio of windows/s."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = write_candidates(folder / "in", queries, 100)
        config = job(folder, REASONRANK_LENGTHS, f"--engine.speedup={speedup}", "--cluster.replicas=1")
        asked = asyncio.run(record_prompts(config, made))
        by_hand = figures("all at once, by hand", asyncio.run(ask_at_once(config, asked)))
        facts = run_job(config)["facts"]["passes"][0]
        ray.shutdown()
    ours = figures("the job", facts["engine"], by_hand["windows_per_second"])
    ours["in_flight_of_wanted"] = in_flight_fraction(facts["in_flight"])
    by_hand["in_flight_of_wanted"] = float("nan")
    report("saturation", [by_hand, ours], f"simulated engine, {queries} queries, speedup {speedup:g}")


if __name__ == "__main__":
    typer.run(main)
