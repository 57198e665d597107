"""How windows/s grow with replicas, and what they cost the driver.

    python tests/benchmarks/scale.py [--replicas 1 --replicas 8 ...] [--waves 4] [--speedup 2]

Simulated engines of 32 places each, ReasonRank-like lengths, so that a query takes about two simulated minutes; the
same number of queries for each replica, in blocks of 8, as a run that is long enough to be worth 32 replicas has them
or larger. All replicas share this machine's cores with the driver: `speedup` is so low that 32 of them do not fill
these. Rates are those of the middle of the run, in simulated time: replicas start one after another here. The middle
is the time in which the second and third quarter of all windows were answered.
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

PLACES = 32


def idle_at_the_end(samples: list[list[float]]) -> float:
    """The part of the replicas' places that stood empty in the last tenth of the run."""
    begin, end = samples[0][0], samples[-1][0]
    last = [now / wanted for seconds, now, wanted in samples if seconds >= end - (end - begin) / 10 and wanted]
    return (1 - sum(last) / len(last)) if last else float("nan")


def when_answered(rows: pa.Table) -> npt.NDArray[np.float64]:
    """Seconds since the epoch at which each window was answered: a query's windows follow each other at once."""
    latencies = [[window["latency_seconds"] for window in windows] for windows in rows["windows"].to_pylist()]
    started = [moment.timestamp() for moment in rows["started_at"].to_pylist()]
    return np.concatenate([at + np.cumsum(seconds) for at, seconds in zip(started, latencies, strict=True)])


def measure(replicas: int, waves: int, speedup: float) -> dict[str, Any]:
    """Run the job in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_candidates(folder / "in", replicas * waves * PLACES, 100)
        config = job(
            folder,
            REASONRANK_LENGTHS,
            f"--engine.speedup={speedup}",
            f"--engine.max_num_seqs={PLACES}",
            f"--cluster={{replicas: {replicas}, cpus_per_replica: 0.01, queries_per_block: 8, progress_seconds: 2}}",
        )
        cpu_seconds, began = time.process_time(), time.monotonic()
        manifest = run_job(config)
        cpu_seconds, seconds = time.process_time() - cpu_seconds, time.monotonic() - began
        rows = pq.read_table(folder / "out", columns=["started_at", "windows"])
    answered = when_answered(rows)
    first, last = np.quantile(answered, [0.25, 0.75])
    windows = np.count_nonzero((answered >= first) & (answered < last))
    return {
        "replicas": replicas,
        "queries": rows.num_rows,
        "windows_per_second": float(windows / (last - first) / speedup),
        "wall_seconds": seconds,
        "idle_places_in_the_last_tenth": idle_at_the_end(manifest["info"]["passes"][0]["in_flight"]),
        "driver_cpu_fraction": cpu_seconds / seconds,
        "driver_cpu_ms_per_block": 1000 * cpu_seconds / len(manifest["files"]),
        "driver_peak_rss_mb": peak_rss_bytes() / 1e6,
    }


def main(
    replicas: Annotated[list[int], typer.Option(help="Give it several times.")] = [1, 2, 4, 8, 16, 32],  # noqa: B006
    waves: Annotated[int, typer.Option(help="Queries of a replica, in multiples of its places.")] = 4,
    speedup: Annotated[float, typer.Option(help="Simulated seconds a second.")] = 2.0,
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the efficiency at each number of replicas, beside the first."""
    if in_this_process:
        print_figures(measure(replicas[0], waves, speedup))
        return
    rows = []
    for count in replicas:
        rows.append(run_alone(__file__, f"--replicas={count}", f"--waves={waves}", f"--speedup={speedup}"))
        rows[-1]["efficiency"] = rows[-1]["windows_per_second"] / count / (rows[0]["windows_per_second"] / replicas[0])
    report("scale", rows, f"simulated engines of {PLACES} places, speedup {speedup:g}")


if __name__ == "__main__":
    typer.run(main)
