"""Say what a rerank run will take, before a GPU is rented. Starts nothing: no Ray, no engine.

    python -m jobs.estimate --config CONFIG --windows-per-second W --replicas N --price-per-gpu-hour P
    python -m jobs.estimate --config CONFIG --prompt-tokens-per-second X --output-tokens-per-second Y ...

Rates are of one replica at full load. Without a rate: windows and tokens only. The length of answers is stated
(--output-tokens-mean), measured (--measured OUTPUT of an earlier run), or else the whole budget, an upper bound.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.config import JobConfig, load_config
from pipeline.errors import ConfigError, RerankerError
from pipeline.estimate import Answers, Duration, Rate, Work, duration, measure_work, measured_answers

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="Job config (YAML).")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Default: the config's, at most.")] = None,
    windows_per_second: Annotated[float | None, typer.Option(help="Of one replica.")] = None,
    prompt_tokens_per_second: Annotated[float | None, typer.Option(help="Of one replica.")] = None,
    output_tokens_per_second: Annotated[float | None, typer.Option(help="Of one replica.")] = None,
    output_tokens_mean: Annotated[float | None, typer.Option(min=0, help="Of one window.")] = None,
    measured: Annotated[str | None, typer.Option(help="Output of an earlier run, for the answers' lengths.")] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(min=0, help="Default: report.price_per_gpu_hour.")] = None,
    sample_queries: Annotated[int, typer.Option(min=0, help="Whose prompts are tokenised; 0: all.")] = 200,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write everything here, too.")] = None,
) -> None:
    """Say what a rerank run will take. Config values: --section.key=value."""
    rates = (windows_per_second, prompt_tokens_per_second, output_tokens_per_second)
    try:
        loaded = load_config(config, context.args)
        rate = Rate(*rates) if any(value is not None for value in rates) else None
        answers = _answers(loaded, output_tokens_mean, measured)
        work = measure_work(loaded, sample_queries or None)
        count = replicas or loaded.cluster.replicas or loaded.cluster.max_replicas or loaded.cluster.min_replicas
        gpus, in_flight = loaded.engine.gpus_per_replica, loaded.cluster.queries_in_flight
        time = duration(work, answers, rate, count, gpus, in_flight) if rate else None
    except RerankerError as error:
        print(f"estimate: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    price = price_per_gpu_hour if price_per_gpu_hour is not None else loaded.report.price_per_gpu_hour
    _show(work, answers, time, price, loaded)
    if json_path is not None:
        found: dict[str, Any] = {"work": asdict(work), "answers": asdict(answers)}
        found["duration"] = None if time is None else {**asdict(time), "seconds": time.seconds}
        found["price"] = None if time is None or price is None else price * time.gpu_hours
        json_path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _answers(config: JobConfig, output_tokens_mean: float | None, measured: str | None) -> Answers:
    if output_tokens_mean is not None and measured is not None:
        raise ConfigError("give --output-tokens-mean or --measured, not both")
    if measured is not None:
        return measured_answers(measured, config.storage)
    if output_tokens_mean is not None:
        return Answers(output_tokens_mean, "stated")
    return Answers(config.generation.max_tokens, "the whole budget: an upper bound")


def _show(work: Work, answers: Answers, time: Duration | None, price: float | None, config: JobConfig) -> None:
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
        table.add_row("time", "give the rate of a replica: --windows-per-second, or prompt and output tokens a second")
    else:
        bound = "the longest chain of one query" if time.chain_seconds > time.work_seconds else "the work"
        table.add_row("time", f"{_hours(time.seconds)} or more on {time.replicas} replicas, bounded by {bound}")
        table.add_row(
            "", f"work {_hours(time.work_seconds)}, longest chain {_hours(time.chain_seconds)}; engine start extra"
        )
        table.add_row("GPU-hours", f"{time.gpu_hours:,.1f} ({config.engine.gpus_per_replica} GPUs a replica)")
    if time is not None and price is not None:
        total, currency = price * time.gpu_hours, config.report.currency
        table.add_row(
            "price", f"{total:,.2f} {currency}; {1000 * total / work.queries:,.2f} {currency} a 1,000 queries"
        )
    Console(soft_wrap=True).print(table)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 600 else f"{seconds:,.0f} s"


if __name__ == "__main__":
    app()
