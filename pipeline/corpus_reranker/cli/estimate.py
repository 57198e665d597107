"""Say what a rerank run will take, before a GPU is rented. Starts nothing: no Ray, no engine.

    corpus-reranker estimate --config CONFIG --windows-per-second W --replicas N --price-per-gpu-hour P
    corpus-reranker estimate --config CONFIG --prompt-tokens-per-second X --output-tokens-per-second Y ...
    corpus-reranker rerank --config CONFIG --estimate

Rates are of one replica at full load. Without a rate: windows and tokens only. The length of answers is stated
(--output-tokens-mean), measured (--measured OUTPUT of an earlier run), or else the whole budget, an upper bound.
All of it may stand in the section `estimate` of the job config.
"""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import RerankerError
from corpus_reranker.run.estimate import Estimate, estimate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="Job config (YAML).")] = None,
    replicas: Annotated[int | None, typer.Option(help="Default: the config's, at most.")] = None,
    windows_per_second: Annotated[float | None, typer.Option(help="Of one replica.")] = None,
    prompt_tokens_per_second: Annotated[float | None, typer.Option(help="Of one replica.")] = None,
    output_tokens_per_second: Annotated[float | None, typer.Option(help="Of one replica.")] = None,
    output_tokens_mean: Annotated[float | None, typer.Option(help="Of one window.")] = None,
    measured: Annotated[str | None, typer.Option(help="Output of an earlier run, for the answers' lengths.")] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="Default: report.price_per_gpu_hour.")] = None,
    sample_queries: Annotated[
        int | None, typer.Option(help="Whose prompts are tokenised; 0: all. Default: 200.")
    ] = None,
    json_path: Annotated[str | None, typer.Option("--json", help="Write everything here, too.")] = None,
) -> None:
    """Say what a rerank run will take. Config values: --section.key=value."""
    options = {
        "estimate.replicas": replicas,
        "estimate.windows_per_second": windows_per_second,
        "estimate.prompt_tokens_per_second": prompt_tokens_per_second,
        "estimate.output_tokens_per_second": output_tokens_per_second,
        "estimate.output_tokens_mean": output_tokens_mean,
        "estimate.measured": measured,
        "estimate.sample_queries": sample_queries,
        "estimate.json_path": json_path,
        "report.price_per_gpu_hour": price_per_gpu_hour,
    }
    overrides = [f"--{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    try:
        show_estimate(load_config(config, [*context.args, *overrides]))
    except RerankerError as error:
        print(f"estimate: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def show_estimate(config: JobConfig) -> None:
    """Print what the run of `config` will take, and write it where `estimate.json_path` says."""
    found = estimate(config)
    Console(soft_wrap=True).print(_table(found, config))
    if config.estimate.json_path is not None:
        content = asdict(found)
        if found.duration is not None:
            content["duration"]["seconds"] = found.duration.seconds
        config.estimate.json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _table(found: Estimate, config: JobConfig) -> Table:
    work, answers, time = found.work, found.answers, found.duration
    prompt_tokens = work.windows * work.prompt_tokens_mean * answers.attempts_mean
    output_tokens = work.windows * answers.output_tokens_mean
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("queries", f"{work.queries:,} with {work.candidates:,} candidates (at most {work.most_candidates:,})")
    table.add_row("windows", f"at most {work.windows:,}; up to {work.depth} one after the other in a query")
    table.add_row(
        "prompt tokens",
        f"{prompt_tokens:,.0f}: {work.prompt_tokens_mean:,.0f} a window, counted on {work.sampled_queries:,} queries"
        + (f"; passages shortened in {work.shortened_fraction:.1%} of windows" if work.shortened_fraction else ""),
    )
    table.add_row(
        "output tokens", f"{output_tokens:,.0f}: {answers.output_tokens_mean:,.0f} a window, {answers.source}"
    )
    if answers.attempts_mean > 1:
        table.add_row("attempts", f"{answers.attempts_mean:.3f} a window")
    if work.unreadable_queries:
        table.add_row("unreadable", f"{work.unreadable_queries:,} sampled queries, which will be failed rows")
    if time is None:
        table.add_row("time", "give a replica's estimate.windows_per_second, or its prompt and output tokens a second")
        return table
    bound = "the longest chain of one query" if time.chain_seconds > time.work_seconds else "the work"
    table.add_row("time", f"{_hours(time.seconds)} or more on {time.replicas} replicas, bounded by {bound}")
    table.add_row(
        "", f"work {_hours(time.work_seconds)}, longest chain {_hours(time.chain_seconds)}; engine start extra"
    )
    table.add_row("GPU-hours", f"{time.gpu_hours:,.1f} ({config.engine.gpus_per_replica} GPUs a replica)")
    if found.price is not None:
        each, currency = 1000 * found.price / work.queries, config.report.currency
        table.add_row("price", f"{found.price:,.2f} {currency}; {each:,.2f} {currency} a 1,000 queries")
    return table


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 600 else f"{seconds:,.0f} s"


if __name__ == "__main__":
    app()
