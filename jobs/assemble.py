"""Make candidates from a run, queries and a corpus: the texts put beside the ids.

    python -m jobs.assemble --config CONFIG [--assemble.top_k=50 ...]
    python -m jobs.assemble --run RUN --queries QUERIES --corpus CORPUS --output FOLDER

Reads the section `assemble` of the job config; its output is, if it names none, what `input` names. The queries are
what the reranker shall read; the run may have been made with other texts. The corpus is read once and never held.
"""

import json
import sys
from typing import Annotated

import typer

from pipeline.config import load_section
from pipeline.dataflow.assemble import assemble, find_passages
from pipeline.dataflow.cluster import connect
from pipeline.errors import RerankerError
from pipeline.retrieval.candidates import CandidatesSummary, begin, finish, written
from pipeline.retrieval.left_out import documents_without_text, queries_without_run, queries_without_text, refuse
from pipeline.retrieval.queries import read_queries
from pipeline.retrieval.run import load_run
from pipeline.retrieval.settings import AssembleConfig
from pipeline.storage.control import control_store
from pipeline.storage.filesystems import resolve
from pipeline.storage.settings import InputConfig, StorageConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

NOT_DECIDING = {"overwrite", "queries_per_block", "corpus_bytes_per_task"}


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="Job config with a section `assemble`.")] = None,
    run: Annotated[str | None, typer.Option(help="TREC run, or Parquet or JSONL of query_id, doc_id, score.")] = None,
    queries: Annotated[str | None, typer.Option(help="TSV, JSONL or Parquet: query_id, query.")] = None,
    corpus: Annotated[str | None, typer.Option(help="JSONL or Parquet: doc_id, title, text.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder for the candidates; local or s3://.")] = None,
) -> None:
    """Make candidates from a run, queries and a corpus."""
    options = {"run.path": run, "queries.path": queries, "corpus.path": corpus, "output": output}
    overrides = [f"--assemble.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    try:
        settings = load_section(config, "assemble", AssembleConfig, [*context.args, *overrides])
        storage = load_section(config, "storage", StorageConfig, context.args)
        folder = settings.output or load_section(config, "input", InputConfig, context.args).path
        summary = assemble_candidates(settings, storage, folder)
    except RerankerError as error:
        print(f"assemble: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(
        f"{folder}: {summary.queries:,} queries, {summary.candidates:,} candidates; left out"
        f" {summary.documents_left_out:,} documents and {summary.queries_left_out:,} queries"
        " (listed in _left_out.jsonl)"
    )


def assemble_candidates(settings: AssembleConfig, storage: StorageConfig, folder: str) -> CandidatesSummary:
    """Make the candidates of every query of the run. Does nothing where they are there already."""
    filesystem, path = resolve(folder, storage)
    control = control_store(folder, storage)
    deciding = {"job": "assemble", **settings.model_dump(mode="json", exclude=NOT_DECIDING)}
    queries = read_queries(settings.queries, lambda url: resolve(url, storage))
    run = load_run(*resolve(settings.run.path, storage), settings.top_k)
    without_text = list(queries_without_text(queries, run))
    if settings.missing == "error":
        refuse(without_text, settings.queries.path)
    if (done := begin(filesystem, path, control, deciding, settings.overwrite)) is not None:
        return done
    connect()
    passages = find_passages(settings, storage, run)
    missing = list(documents_without_text(run, passages.missing(), passages.blank))
    if settings.missing == "error":
        refuse(missing, settings.corpus.path)
    first_stage = {"method": "run", "run": settings.run.path, "top_k": settings.top_k, "corpus": settings.corpus.path}
    assemble(settings, run, queries.table, passages, first_stage, filesystem, path)
    known = written(filesystem, path).keys() | {row["query_id"] for row in without_text}
    emptied = [{"query_id": query, "reason": "no candidate left"} for query in run.query_ids if query not in known]
    without_run = list(queries_without_run(queries, run))
    return finish(filesystem, path, control, deciding, [*without_text, *without_run, *emptied, *missing])


if __name__ == "__main__":
    app()
