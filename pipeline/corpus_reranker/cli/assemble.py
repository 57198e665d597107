"""Make candidates from a run, queries and a corpus: the texts put beside the ids.

    corpus-reranker assemble --config CONFIG [--assemble.hits=50 ...]
    corpus-reranker assemble --run RUN --queries QUERIES --corpus CORPUS --output FOLDER

Reads the section `assemble` of the job config; its output is, if it names none, what `input` names. The queries are
what the reranker shall read; the run may have been made with other texts. The corpus is read once and never held.
"""

import json
import sys
from typing import Annotated

import typer

from corpus_reranker.config.loader import load_section
from corpus_reranker.errors import RerankerError
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.retrieval.settings import AssembleConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
    from corpus_reranker.dataflow.assemble import assemble_candidates  # Ray takes seconds to import

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
        f" {summary.documents_skipped:,} documents and {summary.queries_skipped:,} queries"
        " (listed in _skipped.jsonl)"
    )


if __name__ == "__main__":
    app()
