"""A whole run with a budget: what the driver does between its rounds, against the duration of the run, and its memory.

    python tests/benchmarks/budget_rounds.py [--queries 10000 --queries 100000]

A job with `allocation: uncertainty` on local Ray, from Parquet to Parquet: 3 windows for every query, then 3 more for
the least stable half. The simulated engine answers at once, in a random order; each query has 12 short candidates in
windows of 4. A run with a real engine takes longer for its windows, and no longer between its rounds.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, ParamSpec, TypeVar
from unittest.mock import patch

import typer
from processes import ProcessPoller, cpu_seconds, peak_memory_bytes
from workload import job, print_figures, report, run_alone, run_job, write_candidates

from corpus_reranker.cache.completions import completion_index
from corpus_reranker.dataflow.cluster import connect
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.run import driver
from corpus_reranker.run.budget import plan_round

P = ParamSpec("P")
T = TypeVar("T")

CANDIDATES = 12
FIRST_WINDOWS = 3
WINDOWS_PER_QUERY = 4.5

STEPS = {"prepare": "prepare", plan_round.__name__: "plan", completion_index.__name__: "index"}
"""What the driver calls in its subprocess before each round: `Sink.prepare`, which deletes the replaced rows, the
allocation, and the index of the completion cache."""


class MeasuredProcess(IsolatedProcess):
    """The driver's subprocess. Adds up what the calls of each step take, in the driver as well."""

    wall_seconds: ClassVar[dict[str, float]] = defaultdict(float)
    cpu_seconds: ClassVar[dict[str, float]] = defaultdict(float)
    peak_bytes: ClassVar[int] = 0

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        step = STEPS.get(function.__name__)
        if step is None:
            return super().run(function, *args, **kwargs)
        started, cpu_started = time.monotonic(), self._cpu_seconds()
        returned = super().run(function, *args, **kwargs)
        self.cpu_seconds[step] += self._cpu_seconds() - cpu_started
        self.wall_seconds[step] += time.monotonic() - started
        MeasuredProcess.peak_bytes = max(self.peak_bytes, super().run(peak_memory_bytes))
        return returned

    def _cpu_seconds(self) -> float:
        return time.process_time() + super().run(time.process_time)


class CpuPoller(ProcessPoller):
    """Records the CPU time of each process of the job."""

    def __init__(self) -> None:
        super().__init__(os.getpid())
        self.seconds: dict[int, float] = {}

    def poll(self, pids: Sequence[int]) -> None:
        self.seconds |= {pid: seconds for pid in pids if (seconds := cpu_seconds(pid))}


def measure(queries: int) -> dict[str, Any]:
    """Run the job in this process."""
    windows = int(queries * WINDOWS_PER_QUERY)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with IsolatedProcess() as isolated:
            isolated.run(write_candidates, folder / "in", queries, CANDIDATES)
        config = job(
            folder,
            "{kind: simulated, speedup: 1e9, output_tokens_mean: 1, output_tokens_p99: 1, max_num_seqs: 512}",
            "--strategy={name: active, window: 4, depth: 12, cutoff: 3, max_calls: 9, min_uncertain: 1}",
            f"--budget={{windows: {windows}, allocation: uncertainty, first_windows: {FIRST_WINDOWS}}}",
            "--cluster={replicas: 1, progress_seconds: 30}",
        )
        connect()
        before, started, cpu_started = peak_memory_bytes(), time.monotonic(), time.process_time()
        with patch.object(driver, "IsolatedProcess", MeasuredProcess), CpuPoller() as poller:
            manifest = run_job(config)
        seconds, driver_cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    passes, wall, cpu = manifest["info"]["passes"], MeasuredProcess.wall_seconds, MeasuredProcess.cpu_seconds
    return {
        "queries": queries,
        "windows_of_budget": windows,
        "windows_requested": sum(each["completions"] for each in passes),
        "rounds": len(passes),
        "wall_seconds": seconds,
        "cpu_seconds": (run_cpu_seconds := sum(poller.seconds.values())),
        **{f"{step}_wall_seconds": wall[step] for step in STEPS.values()},
        **{f"{step}_cpu_seconds": cpu[step] for step in STEPS.values()},
        "percent_of_wall": 100 * sum(wall.values()) / seconds,
        "percent_of_cpu": 100 * sum(cpu.values()) / run_cpu_seconds,
        "driver_cpu_seconds": driver_cpu_seconds,
        "driver_before_mb": before / 1e6,
        "driver_peak_mb": peak_memory_bytes() / 1e6,
        "subprocess_peak_mb": MeasuredProcess.peak_bytes / 1e6,
    }


def main(
    queries: Annotated[list[int], typer.Option(help="May be repeated.")] = [10**4, 10**5],  # noqa: B006
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the cost of the rounds at each number of queries."""
    if in_this_process:
        print_figures(measure(queries[0]))
        return
    rows = [run_alone(__file__, f"--queries={count}") for count in queries]
    report("budget-rounds", rows, "simulated engine that answers at once")


if __name__ == "__main__":
    typer.run(main)
