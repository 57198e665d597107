"""`corpus-reranker estimate`: predicts the cost of a run before a GPU is rented."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Json, command_app
from corpus_reranker.cli.printing import print_json
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.formatting import counted
from corpus_reranker.io.spend import format_cost
from corpus_reranker.run.estimate import CurveRow, Estimate, EstimatedCurve
from corpus_reranker.run.estimate import estimate as estimate_run

app = command_app()


@app.command("estimate", cls=ConfigCommand)
def estimate(
    context: typer.Context,
    config: Config = None,
    date: Date = None,
    replicas: Annotated[int | None, typer.Option(help="Number of replicas; default: the config's maximum.")] = None,
    windows_per_second: Annotated[float | None, typer.Option(help="Rate of one replica.")] = None,
    prompt_tokens_per_second: Annotated[float | None, typer.Option(help="Rate of one replica.")] = None,
    output_tokens_per_second: Annotated[float | None, typer.Option(help="Rate of one replica.")] = None,
    output_tokens_mean: Annotated[float | None, typer.Option(help="Output tokens per window.")] = None,
    measured: Annotated[
        str | None, typer.Option(help="Output of an earlier run, for output lengths and a budget's gain.")
    ] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="Default: report.price_per_gpu_hour.")] = None,
    sample_queries: Annotated[
        int | None, typer.Option(help="Number of queries whose prompts are tokenized; 0: all; default: 200.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict windows, tokens, time and price of a run. Starts neither Ray nor an engine.

    Rates are per replica at full load. Without a rate, the estimate has only windows and tokens. The output length
    comes from --output-tokens-mean or --measured. Without them, it is max_tokens, an upper bound. If the config has
    a budget, --measured also prints the gain in stability for each number of windows.
    """
    own = {
        "estimate.replicas": replicas,
        "estimate.windows_per_second": windows_per_second,
        "estimate.prompt_tokens_per_second": prompt_tokens_per_second,
        "estimate.output_tokens_per_second": output_tokens_per_second,
        "estimate.output_tokens_mean": output_tokens_mean,
        "estimate.measured": measured,
        "estimate.sample_queries": sample_queries,
        "report.price_per_gpu_hour": price_per_gpu_hour,
    }
    show_estimate(JobOptions.of(context, config, date, own).job(), as_json)


def show_estimate(config: JobConfig, as_json: bool = False) -> None:
    """Print the estimate for `config`, and write it to `estimate.json_path` if that is set."""
    found = estimate_run(config)
    if config.estimate.json_path is not None:
        config.estimate.json_path.write_text(json.dumps(_content(found), indent=1), encoding="utf-8")
    if as_json:
        print_json(_content(found))
        return
    console = Console(soft_wrap=True)
    console.print(_table(found, config))
    if found.curve is not None:
        for part in _curve(found.curve, config):
            console.print(part)


def _content(found: Estimate) -> dict[str, Any]:
    content = asdict(found)
    if found.duration is not None:
        content["duration"]["seconds"] = found.duration.seconds
    return content


def _table(found: Estimate, config: JobConfig) -> Table:
    work, lengths, time = found.work, found.lengths, found.duration
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(
        "queries", f"{work.queries:,} with {counted(work.candidates, 'candidate')} (at most {work.most_candidates:,})"
    )
    table.add_row("windows", f"at most {work.windows:,}; up to {work.chain_windows} in sequence per query")
    table.add_row(
        "prompt tokens",
        f"{found.prompt_tokens:,.0f}: {work.prompt_tokens_mean:,.0f} per window, counted on"
        f" {counted(work.sampled_queries, 'query')}"
        + (f"; passages shortened in {work.shortened_fraction:.1%} of windows" if work.shortened_fraction else ""),
    )
    table.add_row(
        "output tokens", f"{found.output_tokens:,.0f}: {lengths.output_tokens_mean:,.0f} per window, {lengths.source}"
    )
    if lengths.attempts_mean > 1:
        table.add_row("attempts", f"{lengths.attempts_mean:.3f} per window")
    if work.unreadable_queries:
        table.add_row("unreadable", f"{counted(work.unreadable_queries, 'sampled query')}, failed in a run")
    if found.endpoint_price is not None:
        price = f"{format_cost(found.endpoint_price)} {config.report.currency} by engine.prices"
        table.add_row("endpoint", f"{price}, if no prompt token is cached and no window is requested again")
    if time is None:
        table.add_row("time", "unknown; give estimate.windows_per_second, or prompt and output tokens per second")
        return table
    bound = "the longest sequence of windows of one query" if time.chain_seconds > time.work_seconds else "the work"
    table.add_row("time", f"at least {_hours(time.seconds)} on {counted(time.replicas, 'replica')}, bounded by {bound}")
    table.add_row(
        "",
        f"work {_hours(time.work_seconds)}, longest sequence {_hours(time.chain_seconds)}; engine start not included",
    )
    table.add_row("GPU-hours", f"{time.gpu_hours:,.1f} ({config.engine.gpus_per_replica} GPUs per replica)")
    if found.price is not None:
        each, currency = 1000 * found.price / work.queries, config.report.currency
        table.add_row("price", f"{found.price:,.2f} {currency}; {each:,.2f} {currency} per 1,000 queries")
    return table


def _curve(curve: EstimatedCurve, config: JobConfig) -> Iterator[Table | str]:
    """The budget curve, with only the columns that are known."""
    assert config.budget is not None
    if not curve.rows:
        yield f"\nbudget curve: none; {curve.note}"
        return
    yield (
        f"\nbudget curve, from {counted(curve.queries, 'query')} of {config.estimate.measured},"
        f" with allocation {config.budget.allocation}:\n"
    )
    columns: dict[str, list[str | None]] = {
        "windows": [f"{row.windows:,}" for row in curve.rows],
        "per query": [f"{row.windows_per_query:.1f}" for row in curve.rows],
        "tokens": [f"{row.tokens:,.0f}" for row in curve.rows],
        "GPU-hours": [None if row.gpu_hours is None else f"{row.gpu_hours:,.1f}" for row in curve.rows],
        config.report.currency: [_price(row) for row in curve.rows],
        "stability": [f"{row.stability:.4f}" for row in curve.rows],
        "gain": ["" if row.stability_gain is None else f"{row.stability_gain:+.2f}" for row in curve.rows],
        "": ["budget" if row.is_budget else "" for row in curve.rows],
    }
    known = {name: cells for name, cells in columns.items() if None not in cells}
    table = Table(box=None, pad_edge=False)
    for name in known:
        table.add_column(name, justify="right", no_wrap=True)
    for cells in zip(*known.values(), strict=True):
        table.add_row(*cells)
    yield table
    yield "\ngain: rise of the stability since the row above, summed over the queries, per 1,000 windows"
    if curve.note:
        yield curve.note


def _price(row: CurveRow) -> str | None:
    price = row.price if row.endpoint_price is None else row.endpoint_price
    return None if price is None else format_cost(price)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 600 else f"{seconds:,.0f} s"
