"""Shared by the throughput benchmarks: synthetic candidates, a job over them, and the output of figures."""

import asyncio
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from rich.console import Console
from rich.table import Table

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.run import driver
from corpus_reranker.types import Candidate, Completion, Generate, Prompt, RerankRequest, RerankResult, SamplingParams

QUERIES_PER_FILE = 5_000

REASONRANK_LENGTHS = "{kind: simulated, prompt_tokens: 5690, output_tokens_cap: 3172}"
"""Windows of ReasonRank: 5,690 prompt tokens; output lengths are lognormal with mean 750 and 99th percentile 3,000 (the
engine's defaults), capped at max_tokens."""


def request(number: int, num_candidates: int) -> RerankRequest:
    """A query with passages of five words. The setting `prompt_tokens` gives the simulated engine the prompt length."""
    candidates = (
        Candidate(f"d{number}-{position}", f"passage {position} of query {number}", 1000.0 - position)
        for position in range(num_candidates)
    )
    return RerankRequest(f"q{number:07}", f"what is query {number}", tuple(candidates))


def write_candidates(folder: Path, count: int, num_candidates: int) -> None:
    """Write Parquet files of `count` queries."""
    folder.mkdir(parents=True)
    for start in range(0, count, QUERIES_PER_FILE):
        requests = (request(number, num_candidates) for number in range(start, min(start + QUERIES_PER_FILE, count)))
        rows = [dataclasses.asdict(each) for each in requests]
        pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), folder / f"{start:09}.parquet")


def job(folder: Path, engine: str, *overrides: str) -> JobConfig:
    """A job over `folder`/in to `folder`/out, windows of 20 with stride 10 over the top 100."""
    return load_config(
        None, [f"--input.path={folder}/in", f"--output.path={folder}/out", f"--engine={engine}", *overrides]
    )


def run_job(config: JobConfig) -> Mapping[str, Any]:
    """Start a new run, print its log lines, and return the manifest."""
    return driver.run_job(config, new_run=True, log=lambda line: print(time.strftime("%H:%M:%S"), line, flush=True))


async def rerank_one(config: JobConfig, request: RerankRequest, generate: Generate) -> RerankResult:
    """Rerank one query with the settings that a replica uses."""
    prompt_builder = create_prompt_builder(config)
    return await rerank_query(
        request,
        generate,
        strategy=config.strategy,
        prompt_builder=prompt_builder,
        parser=prompt_builder.parser,
        sampling=config.generation.sampling_params(prompt_builder.parser),
        policy=config.policy,
    )


async def record_prompts(config: JobConfig, queries: Sequence[RerankRequest]) -> list[tuple[Prompt, SamplingParams]]:
    """Every prompt of a job over `queries` with the simulated engine, in some order."""
    engine = create_engine(config.engine.model_copy(update={"speedup": 1e9}))
    await engine.start()
    prompts: list[tuple[Prompt, SamplingParams]] = []

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        prompts.append((prompt, params))
        return await engine.generate(prompt, params)

    for query in queries:
        await rerank_one(config, query, generate)
    await engine.stop()
    return prompts


async def generate_at_once(config: JobConfig, prompts: Sequence[tuple[Prompt, SamplingParams]]) -> dict[str, Any]:
    """Submit all prompts to one engine at once: the engine's limit.

    Returns:
        The info of the engine, plus `seconds`, the wall time.
    """
    engine = create_engine(config.engine)
    await engine.start()
    started = time.perf_counter()
    await asyncio.gather(*(engine.generate(prompt, params) for prompt, params in prompts))
    info = {**engine.info(), "seconds": time.perf_counter() - started}
    await engine.stop()
    return info


def run_alone(script: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark of one size in its own process with its own Ray. Return the JSON of its last line."""
    command = [sys.executable, script, *arguments, "--in-this-process"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = ""
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    figures: dict[str, Any] = json.loads(line)
    return figures


def print_figures(figures: Mapping[str, Any]) -> None:
    """Shut Ray down, so that it prints nothing more, and print the figures as the last line, for `run_alone`."""
    ray.shutdown()
    print(json.dumps(figures))


def peak_rss_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_address_space_bytes() -> int:
    """Peak of this process's address space so far."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) * 1024


def report(name: str, rows: Sequence[Mapping[str, Any]], note: str) -> None:
    """Print the figures as a table, and write them to out/benchmarks/NAME.json."""
    table = Table(title=f"{name}: {note}", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.3f}" if isinstance(value, float) else f"{value}" for value in row.values()))
    Console(width=180).print(table)
    folder = Path("out/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    content = {"note": note, "machine": machine, "rows": list(rows)}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
