"""Formats an evaluation as tables for a terminal, as JSON or as CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus_reranker.evaluation.comparison import Evaluation, macro_means, per_query
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.formatting import counted


def show(
    evaluation: Evaluation, num_judged: int, settings: EvaluateConfig, simulated: Sequence[str], console: Console
) -> None:
    """Print means, comparisons, the number of missing queries, and the sources that no model ranked."""
    console.print(_means_table(evaluation, settings))
    if evaluation.comparisons:
        console.print(_comparisons_table(evaluation, settings))
    for system in evaluation.systems:
        if missing := evaluation.missing[system.name]:
            console.print(
                f"{system.name}: {missing} of {counted(num_judged, 'judged query')} missing, counted as 0.",
                markup=False,
            )
    for name in simulated:
        console.print(f"{name}: no model ranked it: its engine was scripted or simulated.", style="red", markup=False)
    unknown = num_judged - len(evaluation.datasets)
    if evaluation.datasets and unknown:
        console.print(
            f"{counted(unknown, 'judged query')} without a known dataset, counted in `all` only.", markup=False
        )
    if any(comparison.baseline.endswith(" pre-ranker") for comparison in evaluation.comparisons):
        console.print("The LLM's own gain is `after - pre-ranker`.", markup=False)
    console.print(
        f"Mean over {counted(num_judged, 'judged query')}. Before: the first stage's order; after: reranked; "
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
    title = "Differences per query (paired randomization test, Holm correction per measure)"
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


def to_json(evaluation: Evaluation, simulated: Sequence[str]) -> str:
    """The whole evaluation as one JSON document, including per-query values and the sources that no model ranked."""
    values: dict[str, Any] = {}
    for system, query_id, _, measure, value in per_query(evaluation):
        values.setdefault(system, {}).setdefault(query_id, {})[measure] = value
    content = {
        "convention": "mean over all judged queries; a judged query missing from a system counts as 0",
        "measures": evaluation.measures,
        "simulated": list(simulated),
        "missing_queries": dict(evaluation.missing),
        "means_of_datasets": macro_means(evaluation),
        "means": [dataclasses.asdict(mean) for mean in evaluation.means],
        "comparisons": [dataclasses.asdict(comparison) for comparison in evaluation.comparisons],
        "datasets": dict(evaluation.datasets),
        "per_query": values,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def to_csv(evaluation: Evaluation) -> str:
    """The values per query as CSV: system, query_id, dataset, measure, value."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["system", "query_id", "dataset", "measure", "value"])
    writer.writerows(per_query(evaluation))
    return text.getvalue()
