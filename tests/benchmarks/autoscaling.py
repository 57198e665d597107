"""A pool that scales from 1 to 3 replicas compared with a fixed pool of 3, on three Ray nodes of this machine.

    python tests/benchmarks/autoscaling.py [--queries 120] [--delay-seconds 0.5]

The scripted engine answers each window after a fixed delay, so a replica's rate is that of its slots. The time is from
the start of the first query to the end of the last, without engine starts.
"""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
import yaml
from ray.cluster_utils import Cluster
from workload import report, write_candidates

from helpers.paths import REPOSITORY
from helpers.ray_cluster import add_node, start_cluster
from helpers.rerank_process import rerank_process

POOLS: dict[str, dict[str, int]] = {"fixed 3": {"replicas": 3}, "1 to 3": {"min_replicas": 1, "max_replicas": 3}}


def measure(cluster: Cluster, pool: str, folder: Path, queries: int, delay_seconds: float) -> dict[str, Any]:
    """Run the job once with this pool."""
    write_candidates(folder / "in", queries, 20)
    config = {
        "input": {"path": f"{folder}/in"},
        "output": {"path": f"{folder}/out"},
        "engine": {"kind": "scripted", "delay_seconds": delay_seconds},
        "cluster": {
            "cpus_per_replica": 3,
            "queries_in_flight": 8,
            "queries_per_block": 1,
            "progress_seconds": 1,
            **POOLS[pool],
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with rerank_process(folder / "config.yaml", environment={"RAY_ADDRESS": cluster.address}) as process:
        if process.wait(watchdog_seconds=1800):
            raise RuntimeError(process.output)
        lines = process.output
    rows = pq.read_table(folder / "out", columns=["started_at", "finished_at"])
    (entry,) = json.loads((folder / "out/_manifest.json").read_text())["info"]["passes"]
    return {
        "pool": pool,
        "queries": rows.num_rows,
        "seconds": (pc.max(rows["finished_at"]).as_py() - pc.min(rows["started_at"]).as_py()).total_seconds(),
        "engine_starts": len(entry["engine_start_seconds"]),
        "replicas_each_second": " ".join(re.findall(r"\| (\d+) replicas", lines)),
    }


def main(
    queries: Annotated[int, typer.Option(help="Number of queries with one window each.")] = 120,
    delay_seconds: Annotated[float, typer.Option(help="Duration of each window.")] = 2.0,
) -> None:
    """Print both pools' times and their replicas over time."""
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        os.environ |= {"RAY_TMPDIR": scratch, "PYTHONPATH": f"{REPOSITORY}/pipeline"}
        cluster = start_cluster()
        try:
            for _ in range(3):
                add_node(cluster, num_cpus=4)
            rows = []
            for pool in POOLS:
                folder = Path(scratch, pool.replace(" ", "-"))
                folder.mkdir()
                rows.append(measure(cluster, pool, folder, queries, delay_seconds))
        finally:
            cluster.shutdown()
    for row in rows:
        row["of_the_fixed_pool"] = row["seconds"] / rows[0]["seconds"]
    report(
        "autoscaling", rows, f"scripted engine, {delay_seconds:g} s for each window, 8 windows in flight per replica"
    )


if __name__ == "__main__":
    typer.run(main)
