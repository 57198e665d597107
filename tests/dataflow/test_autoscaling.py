"""Replicas over the nodes of a cluster: all nodes are used, late nodes too, and a slow engine delays no other.

The nodes are Ray nodes on this machine. Their GPUs exist only as Ray resources.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster

from helpers.paths import REPOSITORY
from helpers.ray_cluster import add_node, ray_folder, start_cluster
from helpers.rerank_process import RerankProcess, rerank_process
from helpers.runs import check_ranking, query, rows_of_folder, write_input

pytestmark = pytest.mark.slow

QUERIES = 24
NODE = {"num_cpus": 4, "num_gpus": 1}
"""A replica of 3 CPUs, or of one GPU, is the only one on its node."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head node without CPUs, and the worker nodes that tests add, which stay. Its workers find the test helpers."""
    with pytest.MonkeyPatch.context() as patch, ray_folder() as folder:
        patch.setenv("RAY_TMPDIR", folder)  # separate from the Ray of other tests
        patch.setenv("PYTHONPATH", f"{REPOSITORY}/pipeline{os.pathsep}{REPOSITORY}/tests")
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = start_cluster()
        try:
            yield cluster
        finally:
            cluster.shutdown()


def add_nodes(cluster: Cluster, number: int) -> None:
    """Add worker nodes until the cluster has `number`."""
    while len(cluster.worker_nodes) < number:
        add_node(cluster, **NODE)


def run(cluster: Cluster, folder: Path, engine: dict[str, Any], **cluster_options: Any) -> Any:
    """A run over 24 queries of one window each, one block for each query."""
    write_input(folder / "in", [query(number, 4) for number in range(QUERIES)])
    config = {
        "input": {"path": f"{folder}/in"},
        "output": {"path": f"{folder}/out"},
        "engine": {
            "kind": "helpers.placed_engine:PlacedEngine",
            "answers": "corpus_reranker.engines.scripted:reverse_order",
            "log_path": f"{folder}/log",
            **engine,
        },
        "strategy": {"window": 4, "stride": 2},
        "cluster": {"queries_in_flight": 2, "queries_per_block": 1, "progress_seconds": 1, **cluster_options},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return rerank_process(folder / "config.yaml", environment={"RAY_ADDRESS": cluster.address})


def events(folder: Path, event: str) -> list[dict[str, Any]]:
    """The events of a kind. The run may be writing the log, so a last line without its end is left out."""
    log = folder / "log"
    complete = log.read_text().split("\n")[:-1] if log.exists() else []
    return [line for line in map(json.loads, complete) if line["event"] == event]


def requesting_processes(folder: Path) -> set[int]:
    return {line["process"] for line in events(folder, "requested")}


def completions_by_process(folder: Path) -> Counter[int]:
    return Counter(line["process"] for line in events(folder, "completed"))


def finish(process: RerankProcess, folder: Path) -> None:
    """Wait for the end of the run and check its output."""
    assert process.wait() == 0, process.output
    rows = rows_of_folder(folder / "out")
    assert len(rows) == QUERIES
    for number in range(QUERIES):
        check_ranking(rows[f"q{number:04}"], query(number, 4))


def test_a_node_that_joins_late_gets_a_replica(cluster: Cluster, tmp_path: Path) -> None:
    add_nodes(cluster, 1)
    nodes = len(cluster.worker_nodes)
    gate = tmp_path / "gate"
    engine = {
        "gpus": 1,
        "answers": "helpers.gated_answers:waits",
        "arguments": {"gate": f"{gate}"},
    }
    with run(cluster, tmp_path, engine, min_replicas=1, max_replicas=nodes + 2) as process:
        assert process.wait_until(lambda: bool(events(tmp_path, "requested"))), process.output
        before = {line["node"] for line in events(tmp_path, "placed")}
        late = add_node(cluster, **NODE)
        assert process.wait_until(lambda: late.node_id in {line["node"] for line in events(tmp_path, "placed")}), (
            process.output
        )
        gate.touch()
        finish(process, tmp_path)
    assert late.node_id not in before
    late_replicas = {line["process"] for line in events(tmp_path, "placed") if line["node"] == late.node_id}
    completions = completions_by_process(tmp_path)
    assert sum(completions[process] for process in late_replicas) > 0


def test_min_below_max_uses_every_node_at_once(cluster: Cluster, tmp_path: Path) -> None:
    add_nodes(cluster, 3)
    gate = tmp_path / "gate"
    engine = {
        "gpus": 0,
        "answers": "helpers.gated_answers:waits",
        "arguments": {"gate": f"{gate}"},
    }
    with run(cluster, tmp_path, engine, min_replicas=1, max_replicas=3, cpus_per_replica=3) as process:
        # No request completes before all three replicas have requests.
        assert process.wait_until(lambda: len(requesting_processes(tmp_path)) == 3), process.output
        replicas = requesting_processes(tmp_path)
        gate.touch()
        finish(process, tmp_path)
    assert len({line["node"] for line in events(tmp_path, "placed")}) == 3
    # Each of the three. Ray may stop one without work and start another before the run ends.
    assert replicas <= completions_by_process(tmp_path).keys()


def test_a_slow_engine_start_does_not_delay_the_others(cluster: Cluster, tmp_path: Path) -> None:
    add_nodes(cluster, 3)
    gate, answers = tmp_path / "gate", tmp_path / "answers"
    engine = {
        "gpus": 1,
        "first_starts_at": f"{gate}",
        "answers": "helpers.gated_answers:waits",
        "arguments": {"gate": f"{answers}"},
    }
    with run(cluster, tmp_path, engine, min_replicas=1, max_replicas=3) as process:
        # No request completes before both other replicas have requests.
        assert process.wait_until(lambda: len(requesting_processes(tmp_path)) == 2), process.output
        replicas = requesting_processes(tmp_path)
        answers.touch()
        # The third engine starts after this, so the other two complete every request.
        assert process.wait_until(lambda: len(events(tmp_path, "completed")) == QUERIES), process.output
        assert replicas <= completions_by_process(tmp_path).keys()
        gate.touch()
        finish(process, tmp_path)


def test_a_replica_larger_than_a_node_spans_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """The replica whose engine does not start releases its GPUs, which its successor needs."""
    add_nodes(cluster, 4)
    gate = tmp_path / "gate"
    engine = {
        "gpus": 2,
        "spans_nodes": True,
        "first_start_fails": True,
        "answers": "helpers.gated_answers:waits",
        "arguments": {"gate": f"{gate}"},
    }
    with run(cluster, tmp_path, engine, min_replicas=1, max_replicas=2) as process:
        assert process.wait_until(lambda: len(events(tmp_path, "placed")) >= 3), process.output
        # No request completes before both started replicas have requests.
        assert process.wait_until(lambda: len(requesting_processes(tmp_path)) == 2)
        placed, started = events(tmp_path, "placed"), requesting_processes(tmp_path)
        gate.touch()
        finish(process, tmp_path)  # the pool may shrink and grow again before the run ends
    for replica in placed:
        assert replica["captures_child_tasks"]
        assert replica["node"] in replica["bundle_nodes"]
    nodes = [node for replica in placed if replica["process"] in started for node in replica["bundle_nodes"]]
    assert len(nodes) == len(set(nodes)) == 4
