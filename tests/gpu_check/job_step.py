"""The whole job on a small input: Parquet, Ray Data, one replica, Parquet. A step of the GPU check.

    python -m gpu_check.job_step MODEL_FOLDER_OR_EMPTY gpu WORKER_CLASS_OR_EMPTY RESULT.json

Writes the result, or the reason why there is none, to RESULT.json.
"""

import collections
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_check.model_shape import TINY_JOB, write_model_folder
from gpu_check.steps import write_result

QUERIES, CANDIDATES = 16, 20
"""The demo collection."""


def job_config(folder: Path, model: Path, device: str, random_weights: bool, worker_class: str = "") -> dict[str, Any]:
    """The job over `folder`/in to `folder`/out, with prompts and windows like those of configs/demo/demo.yaml."""
    engine: dict[str, Any] = {"kind": "vllm", "model": str(model), "device": device, "max_num_seqs": 64}
    if device == "cpu":
        engine |= {"dtype": "float32", "enforce_eager": True, "kv_cache_gib": 1}
    else:
        engine |= {"dtype": "bfloat16", "gpu_memory_utilization": 0.3}
    engine["engine_kwargs"] = ({"load_format": "dummy"} if random_weights else {}) | (
        {"worker_cls": worker_class} if worker_class else {}
    )
    return {
        "input": {"path": str(folder / "in")},
        "output": {"path": str(folder / "out")},
        "engine": engine | {"max_model_len": 8192 if random_weights else 2048},
        "prompt": {"template": "rankgpt", "max_passage_tokens": 48},
        "strategy": {"name": "sliding_window", "window": 10, "stride": 5, "depth": CANDIDATES},
        "generation": {"temperature": 0.0, "max_reasoning_tokens": 0, "max_answer_tokens": 60},
        "cluster": {"replicas": 1},
        "max_failed_fraction": 1.0,
        "max_unanswered_fraction": 1.0,
    }


def check_output(folder: Path) -> dict[str, int]:
    """The number of queries by status.

    Raises:
        ValueError: If a query or a candidate is missing or appears twice.
    """
    import pyarrow.parquet as pq

    if not (folder / "_SUCCESS").exists():
        raise ValueError("the job ended without _SUCCESS")
    columns = ["query_id", "status", "ranking"]
    rows = [
        row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file, columns=columns).to_pylist()
    ]
    if len(rows) != QUERIES or len({row["query_id"] for row in rows}) != QUERIES:
        raise ValueError(f"the output has {len(rows)} rows for {QUERIES} queries")
    for row in rows:
        documents = [candidate["doc_id"] for candidate in row["ranking"]]
        if len(documents) != CANDIDATES or len(set(documents)) != CANDIDATES:
            raise ValueError(f"query {row['query_id']} came back with {len(documents)} candidates of {CANDIDATES}")
    return dict(collections.Counter(row["status"] for row in rows))


def run(model: str, device: str, worker_class: str, folder: Path) -> dict[str, Any]:
    """Run the job as its command and check its output.

    Args:
        model: Folder of a model; empty: a tiny one with random weights.
        device: "gpu" or "cpu".
        worker_class: vLLM's `worker_cls`; empty: its own.
        folder: Where input, config and output go.

    Raises:
        ValueError: If the job or its output is not what it should be.
        ImportError: If a package that the job needs is missing.
    """
    import ray  # noqa: F401 (missing on a machine that has no more than vLLM: fail before anything else)

    from corpus_reranker.cli.demo import write_candidates

    source = Path(model).resolve() if model else folder / "model"
    if not model:
        write_model_folder(TINY_JOB, source)
    write_candidates(folder / "in")
    config = folder / "job.yaml"
    config.write_text(json.dumps(job_config(folder, source, device, not model, worker_class)), encoding="utf-8")
    began = time.monotonic()
    command = [sys.executable, "-m", "corpus_reranker", "rerank", "--config", str(config)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise ValueError(f"the job ended with exit code {code}")
    seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "model": source.name if model else "random weights",
        "queries_by_status": check_output(folder / "out"),
    }


def main() -> None:
    """Run the step that the arguments name."""
    model, device, worker_class, result = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        try:
            figures = run(model, device, worker_class, Path(folder))
        except ImportError as error:
            figures = {"reason": f"{error}; install the extras gpu and cluster"}
        except ValueError as error:
            figures = {"reason": str(error)}
    write_result(Path(result), figures)


if __name__ == "__main__":
    main()
