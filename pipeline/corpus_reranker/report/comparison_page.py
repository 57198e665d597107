"""The comparison of two outputs: one self-contained HTML page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.evaluation.candidate_texts import CandidateTexts
from corpus_reranker.evaluation.comparison import Evaluation, evaluate
from corpus_reranker.evaluation.joined_rankings import RankedFiles, join_rankings
from corpus_reranker.evaluation.output_comparison import (
    ChangedQuery,
    Distribution,
    OutputComparison,
    QueryAgreement,
    compare_rankings,
    csv_header,
    csv_row,
)
from corpus_reranker.evaluation.outputs import Output, open_output
from corpus_reranker.evaluation.rankings import QueryOrders, read_batches, read_orders
from corpus_reranker.evaluation.run_settings import Setting, pair_settings, read_settings
from corpus_reranker.evaluation.settings import CompareConfig, EvaluateConfig, ndcg_settings
from corpus_reranker.evaluation.trec import Qrels, load_qrels
from corpus_reranker.formatting import clip, counted, percentage
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.report.charts import Chart, distribution, signed_bars
from corpus_reranker.report.templating import Tile, render

MAX_PASSAGE_CHARS = 2_000
"""Limit for a passage on the page."""


@dataclass(frozen=True, slots=True)
class ComparedOutput:
    """One side of the comparison. `name` is its location without credentials."""

    name: str
    filesystem: pafs.FileSystem
    path: str
    output: Output

    @property
    def files(self) -> RankedFiles:
        return RankedFiles(self.name, self.filesystem, self.output.data_files)


@dataclass(frozen=True, slots=True)
class ComparedOutputs:
    """The whole comparison.

    Attributes:
        a: The first output, for example of the version in use.
        b: The second output.
        settings: The settings of both.
        rankings: How far the rankings agree.
        evaluation: nDCG@10 of the systems A and B and their difference, if there are qrels.
        failures: One line for each threshold that is not reached.
    """

    a: ComparedOutput
    b: ComparedOutput
    settings: Sequence[Setting]
    rankings: OutputComparison
    evaluation: Evaluation | None
    failures: Sequence[str]

    @property
    def differences(self) -> list[Setting]:
        return [setting for setting in self.settings if setting.differs]


@dataclass(frozen=True, slots=True)
class RankLine:
    """One rank of a changed query: the document there in A and in B, each with its rank in the other, and its text."""

    rank: int
    a: tuple[str, int | None, str | None] | None
    b: tuple[str, int | None, str | None] | None


def compare_outputs(
    url: str,
    storage: StorageConfig,
    config: CompareConfig,
    evaluate_config: EvaluateConfig | None = None,
    candidates: InputConfig | None = None,
) -> ComparedOutputs:
    """Compare the output at `url`, as B, with the baseline of `config`, and write the page and the CSV file.

    `candidates` adds the passages of the listed queries to the page.

    Raises:
        InputError: An output, the qrels or the candidates cannot be read, an output is unfinished or simulated and
            that is not allowed, or the outputs have no query in common.
        OutputError: A file cannot be written.
    """
    a, b = (_open(each, storage, config) for each in (config.baseline, url))
    settings = pair_settings(*(read_settings(each.filesystem, each.path, each.output) for each in (a, b)))
    qrels = config.qrels or (evaluate_config and evaluate_config.qrels)
    judgments = load_qrels(*resolve(qrels, storage)) if qrels else None
    texts = CandidateTexts(candidates, storage) if candidates else None
    with ExitStack() as stack:
        record = _csv_writer(stack, config, storage)
        rankings = compare_rankings(join_rankings(a.files, b.files), config, record)
    evaluation = judgments and _evaluate(a, b, judgments, config, evaluate_config)
    compared = ComparedOutputs(a, b, settings, rankings, evaluation or None, rankings.failures(config))
    with atomic_output(*resolve(config.page_path, storage)) as stream:
        stream.write(render_comparison(compared, config, texts).encode())
    return compared


def render_comparison(compared: ComparedOutputs, config: CompareConfig, texts: CandidateTexts | None = None) -> str:
    """The HTML page. `texts` adds the passages of the listed queries."""
    rankings = compared.rankings
    return render(
        "comparison.html.j2",
        compared=compared,
        rankings=rankings,
        config=config,
        checked=config.min_tau is not None or config.min_overlap is not None,
        tiles=list(_tiles(compared)),
        charts=[chart for each in rankings.distributions if (chart := _chart(each))],
        quality=compared.evaluation and _quality(compared.evaluation),
        queries=_listed(compared, texts),
        with_texts=texts is not None,
    )


def _open(url: str, storage: StorageConfig, config: CompareConfig) -> ComparedOutput:
    filesystem, path = resolve(url.rstrip("/"), storage)
    allowed = {"allow_unfinished": config.allow_unfinished, "allow_simulated": config.allow_simulated}
    return ComparedOutput(redact(url.rstrip("/")), filesystem, path, open_output(filesystem, path, **allowed))


def _csv_writer(stack: ExitStack, config: CompareConfig, storage: StorageConfig) -> Any:
    if config.csv_path is None:
        return lambda _: None
    stream = stack.enter_context(atomic_output(*resolve(config.csv_path, storage)))
    stream.write(csv_header().encode())

    def record(agreement: QueryAgreement) -> None:
        stream.write(csv_row(agreement).encode())

    return record


def _evaluate(
    a: ComparedOutput, b: ComparedOutput, qrels: Qrels, config: CompareConfig, evaluate_config: EvaluateConfig | None
) -> Evaluation:
    def reranked(side: ComparedOutput) -> Iterator[QueryOrders]:
        read = read_orders(side.filesystem, side.path, qrels, allow_unfinished=config.allow_unfinished)
        for query in read:
            yield QueryOrders(query.query_id, {"run": query.orders["after"]}, query.dataset)

    return evaluate({"A": reranked(a), "B": reranked(b)}, qrels, ndcg_settings(evaluate_config, baseline="A"))


def _tiles(compared: ComparedOutputs) -> Iterator[Tile]:
    rankings = compared.rankings
    unmatched = [f"{count:,} {match}" for match, count in rankings.matches.items() if match != "same candidates"]
    alarm = ", ".join(each for each in unmatched if not each.startswith("0 "))
    if compared.evaluation is not None:
        change = compared.evaluation.comparisons[0]
        note = f"[{change.low:+.3f}, {change.high:+.3f}], p {change.p:.4f}"
        yield Tile("nDCG@10, B − A", f"{change.difference:+.4f}", note=note)
    yield Tile("Queries compared", f"{rankings.compared:,}", alarm=alarm)
    for each in rankings.distributions:
        if len(each.values):
            unchanged = f"1 for {percentage(each.unchanged, len(each.values))} of queries"
            yield Tile(f"Mean {each.name}", f"{each.mean:.3f}", note=unchanged)
    changed = percentage(rankings.first_changed, rankings.compared)
    yield Tile("First document changed", changed, note=counted(rankings.first_changed, "query"))


def _chart(measure: Distribution) -> Chart | None:
    changed = measure.values[measure.values <= 1 - 1e-9]
    if not len(changed):
        return None
    low = -1.0 if measure.values.min() < 0 else 0.0
    return distribution(changed, low, 1.0, f"{measure.name}, {counted(len(changed), 'query')} below 1", "queries")


def _quality(evaluation: Evaluation) -> dict[str, Any]:
    a, b = evaluation.systems
    return {
        "means": evaluation.means,
        "change": evaluation.comparisons[0],
        "missing": evaluation.missing,
        "chart": signed_bars(
            b.values[0] - a.values[0], f"{len(a.query_ids):,} judged queries, best gain first", "change of nDCG@10"
        ),
    }


def _listed(
    compared: ComparedOutputs, texts: CandidateTexts | None
) -> list[tuple[ChangedQuery, str | None, list[RankLine]]]:
    """The most changed queries with their texts, and their ranks side by side."""
    changed = compared.rankings.most_changed
    queries = _query_texts(compared.a, [each.agreement.query_id for each in changed])
    listed = []
    for each in changed:
        query_id = each.agreement.query_id
        passages = texts.find(query_id).passages if texts else {}
        sides = [[(*entry, _passage(passages, entry[0])) for entry in top] for top in (each.top_a, each.top_b)]
        lines = [RankLine(rank, a, b) for rank, (a, b) in enumerate(zip_longest(*sides), 1)]
        listed.append((each, queries.get(query_id), lines))
    return listed


def _query_texts(side: ComparedOutput, query_ids: Sequence[str]) -> dict[str, str]:
    """The texts of these queries; empty if the output has no such column."""
    wanted, found = pa.array(query_ids, pa.string()), dict[str, str]()
    for data_file in side.output.data_files:
        if len(found) == len(query_ids):
            break
        for batch in read_batches(side.filesystem, data_file, ["query_id"], ["query"]):
            if "query" not in batch.schema.names:
                return {}
            rows = batch.filter(pc.is_in(batch["query_id"].cast(pa.string()), value_set=wanted))
            found |= {str(row["query_id"]): str(row["query"]) for row in rows.to_pylist()}
    return found


def _passage(passages: Mapping[str, Mapping[str, Any]], doc_id: str) -> str | None:
    passage = passages.get(doc_id)
    if passage is None:
        return None
    return clip(": ".join(filter(None, (passage.get("title"), passage["text"]))), MAX_PASSAGE_CHARS)
