"""Whether completions depend on the requests that share a batch, on vLLM's CPU build.

    python tests/benchmarks/determinism.py [--prompts 24] [--output-tokens 60]

Sends the windows of the demo collection to SmolLM2-135M in float32 at temperature 0: one after the other, as with
max_num_seqs 1, and all at once, each twice. Compares the completions with those of the first run, by their tokens.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from corpus_reranker.cli.demo import write_candidates
from corpus_reranker.cli.demo_model import convert_demo_model
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.engines.base import Engine
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sources.rows import check_batch, parse_row
from corpus_reranker.types import Prompt, SamplingParams


def main(
    folder: Annotated[Path, typer.Option(help="Folder for the model and the input.")] = Path(".cache"),
    prompts: Annotated[int, typer.Option(min=2, help="Number of windows.")] = 24,
    output_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each completion.")] = 60,
) -> None:
    model, candidates = convert_demo_model(folder), folder / "determinism"
    write_candidates(candidates)
    overrides = (f"--engine.model={model}", f"--engine.max_num_seqs={prompts}")
    config = load_config("demo/demo", [*overrides, f"--input.path={candidates}", "--output.path=none"])
    asyncio.run(_compare(config, _prompts(config, prompts), SamplingParams(0.0, 1.0, 0, 0.0, output_tokens, seed=0)))


async def _compare(config: JobConfig, prompts: list[Prompt], params: SamplingParams) -> None:
    engine, encode = create_engine(config.engine, config.engine_context), create_prompt_builder(config).tokenizer.encode
    await engine.start()
    print("| requests in flight | completions equal to those of the first run | first difference at token |")
    print("|---|---|---|")
    first: list[list[int]] = []
    for concurrency in (1, 1, len(prompts), len(prompts)):
        tokens = [encode(text) for text in await _run(engine, prompts, params, concurrency)]
        first = first or tokens
        different = [_common(*pair) for pair in zip(first, tokens, strict=True) if pair[0] != pair[1]]
        equal = f"{len(tokens) - len(different)} of {len(tokens)}"
        print(f"| {concurrency} | {equal} | {min(different, default='none')} |", flush=True)
    await engine.stop()


async def _run(engine: Engine, prompts: list[Prompt], params: SamplingParams, concurrency: int) -> list[str]:
    slots = asyncio.Semaphore(concurrency)

    async def complete(prompt: Prompt) -> str:
        async with slots:
            return (await engine.generate(prompt, params)).text

    return await asyncio.gather(*map(complete, prompts))


def _prompts(config: JobConfig, number: int) -> list[Prompt]:
    """The first two windows of 10 of each query, until there are enough."""
    build = create_prompt_builder(config)
    rows = check_batch(pq.read_table(config.input.path), RowLimits()).to_pylist()
    renders = [build(parse_row(row)) for row in rows]
    return [render(range(start, start + 10)) for start in (0, 10) for render in renders][:number]


def _common(first: list[int], second: list[int]) -> int:
    """The number of tokens before the first difference."""
    pairs = zip(first, second, strict=False)
    return next((position for position, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


if __name__ == "__main__":
    typer.run(main)
