"""Windows/s and the driver's cost as the number of replicas grows.

    python tests/benchmarks/scale.py [--replicas 1 --replicas 8 ...] [--waves 4] [--speedup 2]

Each replica has a simulated engine with 32 slots and the lengths of ReasonRank, so a query takes about two simulated
minutes. The number of queries grows with the number of replicas, in blocks of 8, as in a run that is large enough for
32 replicas. All replicas share the cores of this machine with the driver; `speedup` is low enough that 32 replicas do
not use all of them. Replicas start one after another, so rates are from the middle of the run, in simulated time: the
time in which the second and third quarter of all windows were completed.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from workload import (
    REASONRANK_LENGTHS,
    job,
    peak_rss_bytes,
    print_figures,
    report,
    run_alone,
    run_job,
    write_candidates,
)

SLOTS = 32


def idle_fraction_of_last_tenth(samples: list[list[float]]) -> float:
    """Mean fraction of free slots in the last tenth of the run's time."""
    begin, end = samples[0][0], samples[-1][0]
    last = [
        in_flight / target for seconds, in_flight, target in samples if seconds >= end - (end - begin) / 10 and target
    ]
    return (1 - sum(last) / len(last)) if last else float("nan")


def completion_times(rows: pa.Table) -> npt.NDArray[np.float64]:
    """Completion time of each window in seconds since the epoch. The windows of a query follow each other at once."""
    latencies = [[window["latency_seconds"] for window in windows] for windows in rows["windows"].to_pylist()]
    started = [moment.timestamp() for moment in rows["started_at"].to_pylist()]
    return np.concatenate([start + np.cumsum(seconds) for start, seconds in zip(started, latencies, strict=True)])


def measure(replicas: int, waves: int, speedup: float) -> dict[str, Any]:
    """Run the job in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_candidates(folder / "in", replicas * waves * SLOTS, 100)
        config = job(
            folder,
            REASONRANK_LENGTHS,
            f"--engine.speedup={speedup}",
            f"--engine.max_num_seqs={SLOTS}",
            f"--cluster={{replicas: {replicas}, cpus_per_replica: 0.01, queries_per_block: 8, progress_seconds: 2}}",
        )
        cpu_seconds, started = time.process_time(), time.monotonic()
        manifest = run_job(config)
        cpu_seconds, seconds = time.process_time() - cpu_seconds, time.monotonic() - started
        rows = pq.read_table(folder / "out", columns=["started_at", "windows"])
    completed = completion_times(rows)
    first, last = np.quantile(completed, [0.25, 0.75])
    windows = np.count_nonzero((completed >= first) & (completed < last))
    return {
        "replicas": replicas,
        "queries": rows.num_rows,
        "windows_per_second": float(windows / (last - first) / speedup),
        "wall_seconds": seconds,
        "idle_slots_in_the_last_tenth": idle_fraction_of_last_tenth(manifest["info"]["passes"][0]["in_flight"]),
        "driver_cpu_fraction": cpu_seconds / seconds,
        "driver_cpu_ms_per_block": 1000 * cpu_seconds / len(manifest["files"]),
        "driver_peak_rss_mb": peak_rss_bytes() / 1e6,
    }


def main(
    replicas: Annotated[list[int], typer.Option(help="May be repeated.")] = [1, 2, 4, 8, 16, 32],  # noqa: B006
    waves: Annotated[int, typer.Option(help="Queries per replica, in multiples of its slots.")] = 4,
    speedup: Annotated[float, typer.Option(help="Simulated seconds per second.")] = 2.0,
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the efficiency at each number of replicas, relative to the first."""
    if in_this_process:
        print_figures(measure(replicas[0], waves, speedup))
        return
    rows = []
    for count in replicas:
        rows.append(run_alone(__file__, f"--replicas={count}", f"--waves={waves}", f"--speedup={speedup}"))
        rows[-1]["efficiency"] = rows[-1]["windows_per_second"] / count / (rows[0]["windows_per_second"] / replicas[0])
    report("scale", rows, f"simulated engines with {SLOTS} slots, speedup {speedup:g}")


if __name__ == "__main__":
    typer.run(main)
