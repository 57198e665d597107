"""`corpus-reranker compare`: how far the rankings of two outputs agree."""

import dataclasses
import math
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from corpus_reranker.cli.exit_codes import OUTPUTS_DISAGREE
from corpus_reranker.cli.options import (
    AllowSimulated,
    AllowUnfinished,
    Config,
    ConfigCommand,
    Date,
    JobOptions,
    Json,
    command_app,
)
from corpus_reranker.cli.printing import format_counts, print_json, terminal
from corpus_reranker.evaluation.output_comparison import Distribution
from corpus_reranker.evaluation.settings import CompareConfig, EvaluateConfig
from corpus_reranker.report.comparison_page import ComparedOutputs, compare_outputs

_SHOWN_CHARS = 60
"""Maximum length of a setting on the screen."""

app = command_app()


@app.command("compare", cls=ConfigCommand)
def compare(
    context: typer.Context,
    a: Annotated[
        str | None,
        typer.Argument(
            metavar="A", help="Output of the baseline, for example of the current version; default: compare.baseline."
        ),
    ] = None,
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="Output of the same queries; default: the config's output.")
    ] = None,
    config: Config = None,
    date: Date = None,
    min_tau: Annotated[
        float | None, typer.Option(help="Exit code 6 if the mean of Kendall's tau is lower; -1 to 1.")
    ] = None,
    min_overlap: Annotated[
        float | None, typer.Option(help="Exit code 6 if the mean overlap of the top ranks is lower; 0 to 1.")
    ] = None,
    cutoff: Annotated[int | None, typer.Option(help="Number of top ranks for overlap; default: 10.")] = None,
    rbo_p: Annotated[float | None, typer.Option(help="Persistence p of RBO; default: 0.9.")] = None,
    qrels: Annotated[str | None, typer.Option(help="TREC qrels; adds the difference of nDCG@10.")] = None,
    input_path: Annotated[
        str | None, typer.Option("--input", help="Candidates Parquet; adds the passages of the listed queries.")
    ] = None,
    listed_queries: Annotated[int | None, typer.Option(help="Number of most changed queries on the page.")] = None,
    page: Annotated[str | None, typer.Option(help="File for the HTML page; default: comparison.html.")] = None,
    allow_unfinished: AllowUnfinished = None,
    allow_simulated: AllowSimulated = None,
    as_json: Json = False,
) -> int:
    """Compare the rankings of two outputs of the same queries, for example before and after an upgrade.

    Prints Kendall's tau, rank-biased overlap, overlap of the top ranks and changes of the first document, and writes an
    HTML page. --compare.csv_path=F writes the values per query. Counts and names the queries that only one output has,
    or whose candidates differ; --min-tau counts them as 0. Reads the config section `compare`.
    """
    own = {
        "baseline": a,
        "min_tau": min_tau,
        "min_overlap": min_overlap,
        "cutoff": cutoff,
        "rbo_p": rbo_p,
        "qrels": qrels,
        "input": input_path,
        "listed_queries": listed_queries,
        "page_path": page,
        "allow_unfinished": allow_unfinished,
        "allow_simulated": allow_simulated,
    }
    options = JobOptions.of_section(context, config, date, "compare", own)
    settings, storage = options.section("compare", CompareConfig), options.storage()
    evaluate = options.section_if_given("evaluate", EvaluateConfig)
    candidates = options.input_at(settings.input) if settings.input else None
    compared = compare_outputs(options.output(b), storage, settings, evaluate, candidates)
    if as_json:
        print_json({**as_document(compared), "page": settings.page_path})
    else:
        show(compared, terminal())
        print(settings.page_path)
    return OUTPUTS_DISAGREE if compared.failures else 0


def as_document(compared: ComparedOutputs) -> dict[str, Any]:
    """The comparison as JSON values, without values per query."""
    rankings = compared.rankings
    evaluation = compared.evaluation
    return {
        "a": compared.a.name,
        "b": compared.b.name,
        "differences": [dataclasses.asdict(each) for each in compared.differences],
        "queries": dict(rankings.matches),
        "named": dict(rankings.named),
        "measures": {each.name: _values(each) for each in rankings.distributions},
        "first_changed": rankings.first_changed,
        "statuses": [{"a": a, "b": b, "queries": count} for (a, b), count in sorted(rankings.statuses.items())],
        "most_changed": [dataclasses.asdict(each) for each in rankings.most_changed],
        "nDCG@10": evaluation and dataclasses.asdict(evaluation.comparisons[0]),
        "failures": list(compared.failures),
    }


def _values(distribution: Distribution) -> dict[str, float | None]:
    values = {"queries": len(distribution.values), "mean": distribution.mean, **distribution.quantiles}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def show(compared: ComparedOutputs, console: Console) -> None:
    """Print the settings that differ, the measures, the queries without a counterpart, and failed thresholds."""
    rankings = compared.rankings
    for each in compared.differences:
        a, b = (text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..." for text in (each.a, each.b))
        console.print(f"{each.key}: {a} -> {b}", markup=False, highlight=False)
    console.print(_table(compared))
    console.print(
        f"first document changed: {rankings.first_changed:,} of {rankings.compared:,} queries", highlight=False
    )
    if compared.evaluation is not None:
        change = compared.evaluation.comparisons[0]
        console.print(
            f"nDCG@10, B - A: {change.difference:+.4f} [{change.low:+.3f}, {change.high:+.3f}], p = {change.p:.4f}",
            markup=False,
            highlight=False,
        )
    if unmatched := {match: count for match, count in rankings.matches.items() if match != "same candidates" and count}:
        console.print(f"queries: {format_counts(unmatched)}", style="red", highlight=False)
    for failure in compared.failures:
        console.print(failure, style="red", markup=False, highlight=False)


def _table(compared: ComparedOutputs) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("measure")
    for header in ("queries", "mean", *compared.rankings.tau.quantiles, "equal to 1"):
        table.add_column(header, justify="right")
    for each in compared.rankings.distributions:
        values = [f"{value:.3f}" for value in (each.mean, *each.quantiles.values())]
        table.add_row(each.name, f"{len(each.values):,}", *values, f"{each.unchanged:,}")
    return table
