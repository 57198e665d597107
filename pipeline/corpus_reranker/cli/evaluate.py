"""Judge reranked outputs, candidates and TREC runs by qrels: before and after, with intervals and significance.

    corpus-reranker evaluate OUTPUT_OR_RUN... --qrels QRELS [--measures nDCG@10,RR@10] [--json F] [--csv F]

With --config the paths and the section `evaluate` come from a job config; options given here win.
"""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus_reranker.config.loader import load_section
from corpus_reranker.errors import RerankerError
from corpus_reranker.evaluation.comparison import Evaluation, evaluate, macro_means, per_query
from corpus_reranker.evaluation.measures import split_measures
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.atomic_file import publish
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import OutputConfig, StorageConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_LOG_COLUMNS = 120
"""Width of the tables where no terminal says otherwise."""


@app.command()
def main(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Outputs (folder or .parquet), candidates, TREC runs; local or s3://.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Job config; without SOURCES its output is judged.")] = None,
    qrels: Annotated[str | None, typer.Option(help="TREC qrels file.")] = None,
    measures: Annotated[str | None, typer.Option(help="As ir_measures writes them: nDCG@10,AP(rel=2),R@100.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Compare all with this system; without it, every pair.")] = None,
    resamples: Annotated[int | None, typer.Option(help="Of the bootstrap and the randomisation test.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    json_path: Annotated[str | None, typer.Option("--json", help="Write everything, also per query, here.")] = None,
    csv_path: Annotated[str | None, typer.Option("--csv", help="Write per-query values here.")] = None,
) -> None:
    """Judge reranked outputs, candidates and TREC runs."""
    options = {
        "qrels": qrels,
        "measures": split_measures(measures) if measures is not None else None,
        "baseline": baseline,
        "resamples": resamples,
        "seed": seed,
        "json_path": json_path,
        "csv_path": csv_path,
    }
    overrides = [f"--evaluate.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    try:
        settings = load_section(config, "evaluate", EvaluateConfig, overrides)
        storage = load_section(config, "storage", StorageConfig)
        sources = sources or [load_section(config, "output", OutputConfig).path]
        judgments = load_qrels(*resolve(settings.qrels, storage))
        orders = {
            name: read_orders(*resolve(source, storage), judgments)
            for name, source in zip(_names(sources), sources, strict=True)
        }
        evaluation = evaluate(orders, judgments, settings)
        for path, text in ((settings.json_path, _json(evaluation)), (settings.csv_path, _csv(evaluation))):
            if path is not None:
                with publish(*resolve(path, storage)) as stream:
                    stream.write(text.encode())
    except RerankerError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    console = Console()
    _show(evaluation, len(judgments), settings, console if console.is_terminal else Console(width=_LOG_COLUMNS))


def _names(sources: Sequence[str]) -> list[str]:
    """The last part of each path; the whole path where two would be called the same."""
    short = [source.rstrip("/").rsplit("/", 1)[-1] for source in sources]
    return [name if short.count(name) == 1 else source for name, source in zip(short, sources, strict=True)]


def _show(evaluation: Evaluation, num_judged: int, settings: EvaluateConfig, console: Console) -> None:
    console.print(_means_table(evaluation, settings))
    if evaluation.comparisons:
        console.print(_comparisons_table(evaluation, settings))
    for system in evaluation.systems:
        if missing := evaluation.missing[system.name]:
            console.print(
                f"{system.name}: {missing} of {num_judged} judged queries missing, counted as 0.", markup=False
            )
    unknown = num_judged - len(evaluation.datasets)
    if evaluation.datasets and unknown:
        console.print(f"{unknown} judged queries are of no known dataset: counted in `all` only.", markup=False)
    console.print(
        f"Mean over all {num_judged} judged queries. Before: the first stage's order; after: reranked; "
        "runs in trec_eval's order.",
        style="dim",
    )


def _means_table(evaluation: Evaluation, settings: EvaluateConfig) -> Table:
    table = Table(title="Means", title_justify="left", box=SIMPLE)
    by_dataset = bool(evaluation.datasets)
    for header in ("measure", "system", *(["dataset"] if by_dataset else [])):
        table.add_column(header, overflow="fold")
    for header in ("queries", "mean", f"{settings.confidence:.0%} interval"):
        table.add_column(header, justify="right", no_wrap=True)
    macro = macro_means(evaluation)
    for index, measure in enumerate(evaluation.measures):
        for mean in (mean for mean in evaluation.means if mean.measure == measure):
            dataset = [escape(mean.dataset or "all")] if by_dataset else []
            interval = escape(f"[{mean.low:.3f}, {mean.high:.3f}]")
            table.add_row(measure, escape(mean.system), *dataset, str(mean.queries), f"{mean.mean:.4f}", interval)
        for system, means in macro.items():
            table.add_row(measure, escape(system), "(mean of datasets)", "", f"{means[index]:.4f}", "")
        if len(evaluation.systems) > 1:
            table.add_section()
    return table


def _comparisons_table(evaluation: Evaluation, settings: EvaluateConfig) -> Table:
    title = "Differences, query by query (paired randomisation test, Holm's correction for each measure)"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("measure", no_wrap=True)
    table.add_column("systems", overflow="fold")
    for header in ("difference", f"{settings.confidence:.0%} interval", "+/=/-", "p", "p (Holm)"):
        table.add_column(header, justify="right", no_wrap=True)
    for measure in evaluation.measures:
        for row in (row for row in evaluation.comparisons if row.measure == measure):
            table.add_row(
                measure,
                escape(f"{row.system} - {row.baseline}"),
                f"{row.difference:+.4f}",
                escape(f"[{row.low:+.3f}, {row.high:+.3f}]"),
                f"{row.wins}/{row.ties}/{row.losses}",
                f"{row.p:.4f}",
                f"{row.p_holm:.4f}",
            )
        table.add_section()
    return table


def _json(evaluation: Evaluation) -> str:
    values: dict[str, Any] = {}
    for system, query_id, _, measure, value in per_query(evaluation):
        values.setdefault(system, {}).setdefault(query_id, {})[measure] = value
    content = {
        "convention": "mean over all judged queries; a judged query missing from a system counts as 0",
        "measures": evaluation.measures,
        "missing_queries": dict(evaluation.missing),
        "means_of_datasets": macro_means(evaluation),
        "means": [dataclasses.asdict(mean) for mean in evaluation.means],
        "comparisons": [dataclasses.asdict(comparison) for comparison in evaluation.comparisons],
        "datasets": dict(evaluation.datasets),
        "per_query": values,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _csv(evaluation: Evaluation) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["system", "query_id", "dataset", "measure", "value"])
    writer.writerows(per_query(evaluation))
    return text.getvalue()


if __name__ == "__main__":
    app()
