"""Whether completions depend on the requests that share a batch, on vLLM's CPU build.

    python tests/benchmarks/determinism.py [--prompts 24] [--output-tokens 60] [--batch 1 --batch 1 --batch 16]

Sends the windows of the demo collection to SmolLM2-135M in float32 at temperature 0, with different limits on the
batch, and compares the completions with those of a run in which every request is alone.
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
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sources.rows import check_batch, parse_row
from corpus_reranker.types import Prompt, SamplingParams


def main(
    folder: Annotated[Path, typer.Option(help="Folder for the model and the input.")] = Path(".cache"),
    prompts: Annotated[int, typer.Option(min=2, help="Number of windows.")] = 24,
    output_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each completion.")] = 60,
    batch: Annotated[list[int] | None, typer.Option(help="max_num_seqs of each run; repeat the option.")] = None,
) -> None:
    batches = batch or [1, 1, 4, 16, 16]
    model, candidates = convert_demo_model(folder), folder / "determinism"
    write_candidates(candidates)
    outcomes = [asyncio.run(_run(model, candidates, size, prompts, output_tokens)) for size in batches]
    print("| max_num_seqs | completions equal to the first run | first difference at token |")
    print("|---|---|---|")
    for size, texts in zip(batches, outcomes, strict=True):
        different = [pair for pair in zip(outcomes[0], texts, strict=True) if pair[0] != pair[1]]
        first = min((_common(*pair) for pair in different), default=None)
        print(f"| {size} | {len(texts) - len(different)} of {len(texts)} | {'none' if first is None else first} |")


async def _run(model: Path, candidates: Path, batch: int, prompts: int, output_tokens: int) -> list[list[int]]:
    overrides = (f"--engine.model={model}", f"--engine.max_num_seqs={batch}")
    config = load_config("demo/demo", [*overrides, f"--input.path={candidates}", "--output.path=none"])
    engine = create_engine(config.engine, config.engine_context)
    await engine.start()
    try:
        params = SamplingParams(0.0, 1.0, 0, 0.0, output_tokens, seed=0)
        tokenizer = create_prompt_builder(config).tokenizer
        completions = await asyncio.gather(*(engine.generate(each, params) for each in _prompts(config, prompts)))
        return [tokenizer.encode(completion.text) for completion in completions]
    finally:
        await engine.stop()


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
