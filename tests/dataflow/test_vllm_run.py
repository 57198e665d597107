"""The rerank job on local Ray with real models in vLLM on the CPU: MiniLM and SmolLM2-135M.

The engine core of SmolLM2 is killed once while queries are in flight.
"""

import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus_reranker.cli.demo import judge, write_candidates
from corpus_reranker.cli.demo_model import packaged_embedder
from corpus_reranker.config.loader import load_config
from corpus_reranker.paths import CONFIGS_DIRECTORY
from helpers.runs import check_ranking, rerank, rows_of

POLL_SECONDS = 0.1


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_the_job_reranks_with_real_models_and_survives_a_death(demo_model: Path, tmp_path: Path) -> None:
    write_candidates(tmp_path / "in")
    source = pq.read_table(tmp_path / "in").to_pylist()
    settings = load_config(
        CONFIGS_DIRECTORY / "demo" / "demo.yaml",
        [
            f"--engine.model={demo_model}",
            f"--pre_ranker.engine.model={packaged_embedder()}",
            "--pre_ranker.keep=7",
            f"--input.path={tmp_path}/in",
            f"--output.path={tmp_path}/out",
            "--strategy={window: 4, stride: 3, depth: 7}",
            "--prompt.max_passage_tokens=48",
            "--generation.max_answer_tokens=30",
            f"--cluster.event_log={tmp_path}/events",
        ],
    )
    killed: list[int] = []
    finished = threading.Event()
    killer = threading.Thread(target=kill_engine_core_once, args=(tmp_path / "events", killed, finished))
    killer.start()
    try:
        manifest, _ = rerank(settings)
    finally:
        finished.set()
        killer.join()
    assert len(killed) == 1
    out = rows_of(settings)
    assert out.keys() == {row["query_id"] for row in source}
    for row in source:
        check_ranking(out[row["query_id"]], row)
    windows = [window for row in out.values() for window in row["windows"]]
    assert manifest["windows_by_status"] == Counter(window["status"] for window in windows)
    assert [(window["start"], window["end"]) for window in out["q01"]["windows"]] == [(3, 7), (0, 4)]
    assert all(window["prompt_tokens"] > 100 and window["output_tokens"] > 0 for window in windows)
    assert all(row["status"] != "complete" or row["error"] is None for row in out.values())
    assert manifest["queries_by_status"] == Counter(row["status"] for row in out.values())
    assert sum(manifest["queries_by_status"].values()) == len(source) == 16
    (info,) = manifest["info"]["passes"]
    assert info["engine_deaths"] == 1
    assert len(info["engine_start_seconds"]) == 2
    engine = info["engine"]
    assert (engine["engine"], engine["simulated"]) == ("vllm", False)
    metadata = pq.read_schema(next((tmp_path / "out").glob("part-*.parquet"))).metadata
    assert metadata[b"reranker.simulated"] == b"false"
    means = judge(settings.output.path)
    assert means["before"] == pytest.approx(0.449, abs=0.001)
    assert means["pre-ranker"] == pytest.approx(0.552, abs=0.005)
    assert means["after"] > means["before"]


def kill_engine_core_once(events: Path, killed: list[int], finished: threading.Event) -> None:
    """Kill the engine core of the LLM once the first query is finished, while others are in flight."""
    while not finished.wait(POLL_SECONDS):
        for log in events.glob("events-*.jsonl"):
            if any(json.loads(line)["event"] == "query" for line in log.read_text().splitlines()[:-1]):
                replica = int(log.stem.rpartition("-")[2])
                cores = [core for core in child_processes(replica) if "EngineCore" in command_line(core)]
                killed.append(max(cores, key=resident_pages))  # the other one is that of the smaller pre-ranker
                os.kill(killed[0], signal.SIGKILL)
                return


def child_processes(process: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def resident_pages(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1])
