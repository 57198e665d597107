"""`corpus-reranker export`: converts a reranked output to other formats."""

from typing import Annotated

import typer

from corpus_reranker.cli.options import (
    AllowSimulated,
    AllowUnfinished,
    Config,
    ConfigCommand,
    Date,
    JobOptions,
    Json,
    Output,
    command_app,
)
from corpus_reranker.cli.printing import print_json
from corpus_reranker.evaluation.candidate_texts import CandidateTexts
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.export.exporter import Exported
from corpus_reranker.export.exporter import export as export_output
from corpus_reranker.export.registry import format_supports
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.export.skipped import SKIPPED_FILE
from corpus_reranker.formatting import counted
from corpus_reranker.io.calibration import read_calibration
from corpus_reranker.io.filesystem import resolve

app = command_app()


@app.command("export", cls=ConfigCommand)
def export(
    context: typer.Context,
    output: Output = None,
    to: Annotated[str | None, typer.Option(metavar="FORMAT", help='Export format, or "module:Class".')] = None,
    destination: Annotated[str | None, typer.Option(help="Empty or new folder, local or s3://.")] = None,
    config: Config = None,
    date: Date = None,
    input_path: Annotated[
        str | None, typer.Option("--input", help="Training data: candidates Parquet with the texts.")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="Search feeds: pass-through column; repeatable.")] = None,
    tag: Annotated[str | None, typer.Option(help="trec: last field of a run line.")] = None,
    index: Annotated[str | None, typer.Option(help="Elasticsearch index, or Vespa document type.")] = None,
    namespace: Annotated[str | None, typer.Option(help="vespa: namespace of the document ids.")] = None,
    positives: Annotated[int | None, typer.Option(help="Training data: number of top ranks.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Training data: negatives sampled per example.")] = None,
    min_negative_rank: Annotated[int | None, typer.Option(help="Training data: first rank of the negatives.")] = None,
    max_negative_rank: Annotated[int | None, typer.Option(help="Training data: last rank of the negatives.")] = None,
    seed: Annotated[int | None, typer.Option(help="Training data: seed of the sampling.")] = None,
    label: Annotated[str | None, typer.Option(help="Training data: rank, llm_score, grade, ...")] = None,
    qrels: Annotated[
        str | None, typer.Option(help="Training data: no document that is judged relevant becomes a negative.")
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="Statuses of the queries to export; repeatable. Default: complete, degraded; training data: complete."
        ),
    ] = None,
    trec_ids: Annotated[
        str | None, typer.Option(metavar="skip|escape", help="trec: skip or percent-encode ids with white space.")
    ] = None,
    single_file: Annotated[
        bool | None,
        typer.Option(
            "--single-file/--file-per-part", help="One file, or one per data file. Default: one for trec, training."
        ),
    ] = None,
    allow_unfinished: AllowUnfinished = None,
    allow_simulated: AllowSimulated = None,
    calibration: Annotated[
        str | None, typer.Option(help="File that `calibrate` wrote; adds p_relevant to Parquet and feeds.")
    ] = None,
    min_p_relevant: Annotated[float | None, typer.Option(help="Skip documents with a lower p_relevant.")] = None,
    overwrite: Annotated[bool | None, typer.Option("--overwrite", help="Replace an earlier export.")] = None,
    as_json: Json = False,
) -> None:
    """Convert a reranked output to TREC runs, long Parquet, search feeds or training data.

    Runs and tables: trec, rankllm, mteb, parquet (one row per candidate). Search feeds: elasticsearch (for `_bulk`, two
    lines per query), vespa (for `vespa feed`). Training data, with texts from --input: triples, flag_embedding,
    tevatron, listwise, margin_mse, hard_negatives. `_skipped.jsonl` lists the skipped queries and documents. Reads the
    config section `export`.
    """
    own = {
        "to": to,
        "destination": destination,
        "input": input_path,
        "columns": column,
        "tag": tag,
        "index": index,
        "namespace": namespace,
        "statuses": status,
        "trec_ids": trec_ids,
        "single_file": single_file,
        "allow_unfinished": allow_unfinished,
        "allow_simulated": allow_simulated,
        "calibration": calibration,
        "min_p_relevant": min_p_relevant,
        "overwrite": overwrite,
        "training.positives": positives,
        "training.negatives": negatives,
        "training.min_negative_rank": min_negative_rank,
        "training.max_negative_rank": max_negative_rank,
        "training.seed": seed,
        "training.label": label,
        "training.qrels": qrels,
    }
    options = JobOptions.of_section(context, config, date, "export", own)
    settings, storage = options.section("export", ExportConfig), options.storage()
    texts, needs_texts = None, format_supports(settings.to, "needs_texts")
    if needs_texts or (settings.for_training and settings.input is not None):
        texts = CandidateTexts(options.input_at(options.candidates(settings.input)), storage)
    qrels_path = settings.training.qrels
    judgments = None if qrels_path is None else load_qrels(*resolve(qrels_path, storage))
    calibrated = settings.calibration and read_calibration(*resolve(settings.calibration, storage))
    source, destination_folder = resolve(options.output(output), storage), resolve(settings.destination, storage)
    exported = export_output(source, destination_folder, settings, texts, calibrated or None, judgments)
    show(exported, settings, as_json)


def show(exported: Exported, settings: ExportConfig, as_json: bool) -> None:
    """Print what the export has written and skipped."""
    if as_json:
        counts = {
            "queries": exported.queries,
            "records": exported.records,
            "below_cutoff": exported.below_cutoff,
            "labels": dict(exported.label_sources),
            "skipped": dict(exported.skipped.counts),
        }
        print_json({"destination": settings.destination, **counts, "files": list(exported.files)})
        return
    written = {"query": exported.queries, "record": exported.records, "file": len(exported.files)}
    print(f"{settings.destination}: {', '.join(counted(count, what) for what, count in written.items())}")
    if exported.label_sources:
        by_source = (f"{counted(count, 'query')} by {source}" for source, count in exported.label_sources.items())
        print("labels: " + ", ".join(by_source))
    if settings.min_p_relevant is not None:
        print(f"skipped below min_p_relevant: {counted(exported.below_cutoff, 'document')}")
    if exported.skipped.counts:
        print(f"skipped: {exported.skipped.describe()}; see {SKIPPED_FILE}")
