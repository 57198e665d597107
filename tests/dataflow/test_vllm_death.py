"""The rerank job with a real model in vLLM on the CPU, whose engine core process is killed during the run."""

import json
import os
import signal
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus_reranker.cli.demo import write_candidates
from corpus_reranker.cli.demo_model import convert_demo_model
from corpus_reranker.config.loader import load_config
from corpus_reranker.paths import CONFIGS_DIRECTORY
from helpers.paths import REPOSITORY
from helpers.runs import check_ranking, rerank, rows_of

NUM_QUERIES = 6
POLL_SECONDS = 0.1


@pytest.mark.vllm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_no_query_is_lost_when_the_engine_core_is_killed(tmp_path: Path) -> None:
    write_candidates(tmp_path / "in")
    source = pq.read_table(tmp_path / "in").slice(0, NUM_QUERIES).to_pylist()
    settings = load_config(
        CONFIGS_DIRECTORY / "demo" / "demo.yaml",
        [
            f"--engine.model={convert_demo_model(REPOSITORY / '.cache')}",
            "--pre_ranker=null",
            f"--input.path={tmp_path}/in",
            f"--output.path={tmp_path}/out",
            "--strategy={window: 5, stride: 5, depth: 10}",
            "--generation.max_answer_tokens=30",
            "--cluster={replicas: 1, queries_in_flight: 2, queries_per_block: 1}",
            f"--cluster.event_log={tmp_path}/events",
        ],
    )
    killed: list[int] = []
    finished = threading.Event()
    killer = threading.Thread(target=kill_engine_core_once, args=(tmp_path / "events", killed, finished))
    killer.start()
    try:
        manifest, _ = rerank(settings, limit=NUM_QUERIES)
    finally:
        finished.set()
        killer.join()
    assert len(killed) == 1
    assert manifest["info"]["passes"][0]["engine_deaths"] == 1
    assert len(manifest["info"]["passes"][0]["engine_start_seconds"]) == 2
    out = rows_of(settings)
    assert out.keys() == {row["query_id"] for row in source}
    for row in source:
        check_ranking(out[row["query_id"]], row)
    windows = [window for row in out.values() for window in row["windows"]]
    assert all(window["output_tokens"] > 0 for window in windows)


def kill_engine_core_once(events: Path, killed: list[int], finished: threading.Event) -> None:
    """Kill the engine core once the first query is finished, while others are in flight."""
    while not finished.wait(POLL_SECONDS):
        for log in events.glob("events-*.jsonl"):
            if any(json.loads(line)["event"] == "query" for line in log.read_text().splitlines()[:-1]):
                replica = int(log.stem.rpartition("-")[2])
                killed += [core for core in child_processes(replica) if "EngineCore" in command_line(core)]
                for core in killed:
                    os.kill(core, signal.SIGKILL)
                return


def child_processes(process: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
