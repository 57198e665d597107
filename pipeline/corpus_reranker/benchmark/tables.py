"""The result of a benchmark as Markdown and as JSON values."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corpus_reranker.benchmark.markdown import table
from corpus_reranker.benchmark.published import PublishedFigure, figure_cells, figures_of
from corpus_reranker.benchmark.results import MEASURE, SplitResult, mean_of_splits
from corpus_reranker.evaluation.comparison import Mean
from corpus_reranker.formatting import counted
from corpus_reranker.io.spend import format_cost


@dataclasses.dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """The finished splits of a benchmark.

    Attributes:
        title: Title of the benchmark.
        model: Model of the reranker.
        splits: Results of the splits that were run.
        num_splits: Number of splits that the benchmark has.
        limit: Queries of each split that were reranked; None: all.
        currency: Currency of the prices.
    """

    title: str
    model: str
    splits: Sequence[SplitResult]
    num_splits: int
    limit: int | None
    currency: str


def to_document(result: BenchmarkResult) -> dict[str, Any]:
    """The result as JSON values, with the published figures of the benchmark."""
    return {
        "benchmark": result.title,
        "model": result.model,
        "measure": MEASURE,
        "limit": result.limit,
        "currency": result.currency,
        "splits": [dataclasses.asdict(each) for each in result.splits],
        "mean_of_splits": {stage: mean_of_splits(result.splits, stage) for stage in result.splits[0].means},
        "splits_of_benchmark": result.num_splits,
        "published_percent": [dataclasses.asdict(each) for each in figures_of(result.title)],
    }


def to_markdown(result: BenchmarkResult) -> str:
    """The result as a Markdown page: effectiveness, published figures, cost and versions."""
    return "\n\n".join(_parts(result)) + "\n"


def _parts(result: BenchmarkResult) -> Iterator[str]:
    yield f"# {result.title}: {result.model}"
    if any(each.simulated for each in result.splits):
        yield "**SIMULATED: no model ranked these queries; the engine was scripted or simulated.**"
    if result.limit is not None:
        yield f"Only the first {counted(result.limit, 'query')} of each split: not comparable with published figures."
    yield f"## {MEASURE}"
    yield _effectiveness(result)
    if figures := figures_of(result.title):
        yield "## Published figures"
        yield _beside_published(result, figures)
        yield "In percent. Figures with different first stages are not comparable."
    yield "## Cost"
    yield _cost(result)
    yield "## Versions"
    yield _versions(result)


def _effectiveness(result: BenchmarkResult) -> str:
    stages = list(result.splits[0].means)
    rows = [
        (
            each.split,
            str(each.judged_queries),
            each.first_stage,
            *(_with_interval(each.means[stage]) for stage in stages),
            f"{each.gain.difference:+.4f} [{each.gain.low:+.3f}, {each.gain.high:+.3f}]",
            f"{each.gain.p:.4f}",
        )
        for each in result.splits
    ]
    if len(result.splits) > 1:
        means = [mean_of_splits(result.splits, stage) for stage in stages]
        rows.append((_scope(result), "", "", *(f"{mean:.4f}" for mean in means), f"{means[-1] - means[0]:+.4f}", ""))
    header = ("split", "judged queries", "first stage", *stages, "after - before", "p")
    return table(header, rows, numbers=(1, *range(3, len(header))))


def _with_interval(mean: Mean) -> str:
    return f"{mean.mean:.4f} [{mean.low:.3f}, {mean.high:.3f}]"


def _scope(result: BenchmarkResult) -> str:
    run, all_splits = len(result.splits), counted(result.num_splits, "split")
    return f"mean of {all_splits}" if run == result.num_splits else f"mean of {run} of {all_splits}"


def _beside_published(result: BenchmarkResult, figures: Sequence[PublishedFigure]) -> str:
    published = {figure.split for figure in figures}
    own = [_own_row(each.split, [each], result) for each in result.splits if each.split in published]
    if None in published:
        own.append(_own_row(_scope(result), result.splits, result))
    others = [
        (each.model, each.split or "mean of splits", *figure_cells(each))
        for each in figures
        if each.split is None or each.split in {result.split for result in result.splits}
    ]
    header = ("model", "split", "first stage", f"its {MEASURE}", MEASURE, "source")
    return table(header, [*own, *others], numbers=(3, 4))


def _own_row(scope: str, results: Sequence[SplitResult], result: BenchmarkResult) -> tuple[str, ...]:
    names = list(dict.fromkeys(each.first_stage for each in results))
    first_stage = names[0] if len(names) == 1 else counted(len(names), "run")
    before, after = (f"{100 * mean_of_splits(results, stage):.1f}" for stage in ("before", "after"))
    return (f"**{result.model}**", scope, first_stage, before, after, "this run")


def _cost(result: BenchmarkResult) -> str:
    header = ("split", "queries", "calls", "prompt tokens", "output tokens", "engine seconds", "price")
    rows = [(each.split, sum(each.statuses.values()), each.cost) for each in result.splits]
    cells = [
        (
            split,
            f"{queries:,}",
            f"{cost.calls:,}",
            f"{cost.prompt_tokens:,}",
            f"{cost.output_tokens:,}",
            f"{cost.engine_seconds:,.1f}",
            "not known" if cost.price is None else f"{format_cost(cost.price)} {result.currency}",
        )
        for split, queries, cost in rows
    ]
    return table(header, cells, numbers=range(1, len(header)))


def _versions(result: BenchmarkResult) -> str:
    """One line for each set of versions, with the splits that it ranked."""
    splits: dict[str, list[str]] = {}
    for each in result.splits:
        splits.setdefault(_version_line(each.versions), []).append(each.split)
    return "\n".join(f"- {', '.join(names)}: {line}" for line, names in splits.items())


def _version_line(versions: Mapping[str, Any]) -> str:
    info = versions["engine_info"]
    engine = [versions.get("engine", "not known"), info.get("engine_version"), info.get("device_name")]
    named = ("model", "pre_ranker_model", "template", "fingerprint")
    return ", ".join(
        [
            f"corpus-reranker {versions.get('version', 'not known')}",
            f"engine {' '.join(filter(None, engine))}",
            *(f"{key.replace('_', ' ')} {versions[key]}" for key in named if key in versions),
        ]
    )
