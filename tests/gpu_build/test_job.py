"""The rerank command on Ray, with an engine over two GPUs in each replica's actor."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.io.schemas import NESTED_INPUT
from gpu_build.engines import STUB_WORKER
from gpu_build.faults import Fault, inject
from gpu_build.model_folders import make_model_folder
from gpu_build.replies import NODES_VARIABLE
from helpers.ray_cluster import add_node, start_cluster

QUERIES = 6
TIMEOUT_SECONDS = 1500


def write_input(folder: Path) -> None:
    rows = [
        {
            "query_id": f"q{number}",
            "query": f"what is {number}",
            "candidates": [
                {
                    "doc_id": f"d{number}-{rank}",
                    "text": f"passage {rank} of {number}",
                    "title": None,
                    "score": 9.0 - rank,
                }
                for rank in range(3)
            ],
        }
        for number in range(QUERIES)
    ]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), folder / "input.parquet")


def rerank(
    folder: Path, models: Path, *overrides: str
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Run `corpus-reranker rerank` with the ready-made config; its result, and the rows of its output."""
    model = make_model_folder(models, "liuwenhan/reasonrank-7B")
    write_input(folder / "in")
    command = [
        *(sys.executable, "-m", "corpus_reranker", "rerank", "--config", "reasonrank-7b"),
        *(f"--input.path={folder / 'in'}", f"--output.path={folder / 'out'}", f"--engine.model={model}"),
        f"--engine.engine_kwargs={json.dumps(STUB_WORKER)}",
        "--cluster={replicas: 1, progress_seconds: 1}",
        *overrides,
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=os.environ, check=False
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"the run did not end in {TIMEOUT_SECONDS} s:\n{error.stdout!r}\n{error.stderr!r}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done, pq.read_table(folder / "out").to_pylist()


def check_rows(rows: list[dict[str, Any]]) -> None:
    """Every query once, in the order that the stub worker's reply gives it: the second passage first."""
    assert sorted(row["query_id"] for row in rows) == [f"q{number}" for number in range(QUERIES)]
    assert {row["status"] for row in rows} == {"complete"}
    for row in rows:
        number = row["query_id"].removeprefix("q")
        assert [entry["doc_id"] for entry in row["ranking"]] == [f"d{number}-{rank}" for rank in (1, 0, 2)]


def test_tensor_parallel_two_in_a_ray_actor(models: Path, tmp_path: Path) -> None:
    _, rows = rerank(tmp_path, models, "--engine.tensor_parallel_size=2")
    check_rows(rows)


@pytest.mark.parametrize("fault", ["death", "hang"])
def test_a_replica_lost_to_a_fault_costs_no_query(fault: Fault, models: Path, tmp_path: Path) -> None:
    marker = inject(fault)
    _, rows = rerank(tmp_path, models, "--engine.hang_timeout_seconds=30")  # a step on a busy machine takes seconds
    assert not marker.exists()
    check_rows(rows)


@pytest.mark.skipif(
    metadata.version("vllm").startswith("0.24."), reason="vLLM 0.24 does not find the bundles of Ray 2.60"
)
def test_one_replica_over_two_nodes(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No node has the two GPUs of the replica: vLLM's Ray executor starts one worker on each."""
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    monkeypatch.setenv(NODES_VARIABLE, str(nodes))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # Cluster starts Ray without a token; vLLM's engine core sends one
    cluster = start_cluster()
    try:
        gpu_nodes = {add_node(cluster, num_cpus=4, num_gpus=1).node_id for _ in range(2)}
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        kwargs = json.dumps({**STUB_WORKER, "distributed_executor_backend": "ray"})
        _, rows = rerank(tmp_path, models, "--engine.tensor_parallel_size=2", f"--engine.engine_kwargs={kwargs}")
    finally:
        cluster.shutdown()
    check_rows(rows)
    assert {file.name for file in nodes.iterdir()} == gpu_nodes
