"""Cost of a query as the input grows: time, memory of the driver, object store.

    python tests/benchmarks/size.py [--queries 1000 --queries 10000 ...]

The scripted engine answers at once, and each query has five candidates in one window, so the rest is the job itself.
"""

import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from workload import job, peak_rss_bytes, print_figures, report, run_alone, run_job, write_candidates

from corpus_reranker.dataflow.cluster import connect


class ObjectStorePeak:
    """Context manager that polls the use of Ray's object store twice per second."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "ObjectStorePeak":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        import ray

        while not self._stop.wait(0.5):
            capacity = ray.cluster_resources().get("object_store_memory", 0)
            self.bytes = max(self.bytes, int(capacity - ray.available_resources().get("object_store_memory", capacity)))


def measure(queries: int) -> dict[str, Any]:
    """Run the job in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_candidates(folder / "in", queries, 5)
        config = job(folder, "{kind: scripted, max_num_seqs: 512}", "--cluster={replicas: 1, progress_seconds: 30}")
        connect()
        before, started, cpu_started = peak_rss_bytes(), time.monotonic(), time.process_time()
        with ObjectStorePeak() as store:
            manifest = run_job(config)
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
        [info] = manifest["info"]["passes"]
    return {
        "queries": queries,
        "files": len(manifest["files"]),
        "wall_seconds": seconds,
        "ms_per_query": 1000 * info["wall_seconds"] / queries,
        "outside_the_pass_seconds": seconds - info["wall_seconds"],
        "driver_cpu_seconds": cpu_seconds,
        "driver_rss_before_mb": before / 1e6,
        "driver_peak_rss_mb": peak_rss_bytes() / 1e6,
        "object_store_peak_mb": store.bytes / 1e6,
    }


def main(
    queries: Annotated[list[int], typer.Option(help="May be repeated.")] = [10**3, 10**4, 10**5, 10**6],  # noqa: B006
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print time and memory at each size."""
    if in_this_process:
        print_figures(measure(queries[0]))
        return
    rows = [run_alone(__file__, f"--queries={count}") for count in queries]
    report("size", rows, "scripted engine that answers at once, one window per query")


if __name__ == "__main__":
    typer.run(main)
