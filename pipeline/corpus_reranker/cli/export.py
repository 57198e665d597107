"""Turn a reranked output into a TREC run, long Parquet, search-engine feeds or training triples.

    corpus-reranker export OUTPUT --to trec|parquet|elasticsearch|vespa|triples --destination FOLDER

trec: `reranked/` and `initial/`, ordered for trec_eval as the ranks say. parquet: one row a candidate.
elasticsearch: for `_bulk`, two lines a query (cut big files at an even line: `split --lines 10000`).
vespa: for `vespa feed`. triples: query, positive, negatives as JSONL, with texts from --input.
With --config the paths and the section `export` come from a job config; options given here win.
"""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from corpus_reranker.config.loader import load_section
from corpus_reranker.errors import RerankerError
from corpus_reranker.export.candidate_texts import CandidateTexts
from corpus_reranker.export.exporter import export
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import OutputConfig, StorageConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    output: Annotated[str | None, typer.Argument(help="Folder or .parquet of the rerank job; local or s3://.")] = None,
    to: Annotated[str | None, typer.Option(help='Export format, or "module:Class".')] = None,
    destination: Annotated[str | None, typer.Option(help="Folder, empty or new; local or s3://.")] = None,
    config: Annotated[str | None, typer.Option(help="Job config; without OUTPUT its output is exported.")] = None,
    input_path: Annotated[str | None, typer.Option("--input", help="Candidates with the texts for triples.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Pass-through column in search documents.")] = None,
    tag: Annotated[str | None, typer.Option(help="Last field of a TREC run line.")] = None,
    index: Annotated[str | None, typer.Option(help="Elasticsearch index, or Vespa document type.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Of Vespa document ids.")] = None,
    positives: Annotated[int | None, typer.Option(help="Top ranks, one triple each.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Sampled for each triple.")] = None,
    min_negative_rank: Annotated[int | None, typer.Option()] = None,
    max_negative_rank: Annotated[int | None, typer.Option()] = None,
    status: Annotated[list[str] | None, typer.Option(help="Queries that give triples; default: complete.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the negatives.")] = None,
    single_file: Annotated[bool | None, typer.Option(help="One file, not one per input part.")] = None,
    overwrite: Annotated[bool | None, typer.Option(help="Replace an earlier export.")] = None,
) -> None:
    """Turn a reranked output into what others read."""
    options = {
        "to": to,
        "destination": destination,
        "input": input_path,
        "columns": column,
        "tag": tag,
        "index": index,
        "namespace": namespace,
        "single_file": single_file,
        "overwrite": overwrite,
        "triples.positives": positives,
        "triples.negatives": negatives,
        "triples.min_negative_rank": min_negative_rank,
        "triples.max_negative_rank": max_negative_rank,
        "triples.statuses": status,
        "triples.seed": seed,
    }
    overrides = [f"--export.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    try:
        settings = load_section(config, "export", ExportConfig, overrides)
        storage = load_section(config, "storage", StorageConfig)
        output = output or load_section(config, "output", OutputConfig).path
        texts = None
        if settings.to == "triples" and settings.input is not None:
            texts = CandidateTexts(*resolve(settings.input, storage))
        exported = export(resolve(output, storage), resolve(settings.destination, storage), settings, texts)
    except RerankerError as error:
        print(f"export: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    Console(soft_wrap=True).print(
        f"{exported.queries} queries -> {exported.records} records in {len(exported.files)} files: "
        f"{settings.destination}",
        markup=False,
    )


if __name__ == "__main__":
    app()
