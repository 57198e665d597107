"""Find candidates for a query set by BM25 over a Lucene index, built from a corpus where there is none.

    corpus-reranker retrieve --config CONFIG [--retrieve.hits=50 ...]
    corpus-reranker retrieve --corpus CORPUS --index FOLDER --queries QUERIES --output FOLDER

Reads the section `retrieve` of the job config; its output is, if it names none, what `input` names.
Wants Java 21 or newer (JAVA_HOME) and pyserini. The index must be at the same path on every node.
"""

import json
import sys
from typing import Annotated

import typer

from corpus_reranker.config.loader import load_section
from corpus_reranker.errors import RerankerError
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.retrieval.settings import RetrieveConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="Job config with a section `retrieve`.")] = None,
    corpus: Annotated[str | None, typer.Option(help="JSONL or Parquet: doc_id, title, text.")] = None,
    index: Annotated[
        str | None, typer.Option(help="Folder, to be built if absent; or a prebuilt index's name.")
    ] = None,
    queries: Annotated[str | None, typer.Option(help="TSV, JSONL or Parquet: query_id, query.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder for the candidates; local or s3://.")] = None,
) -> None:
    """Find candidates for a query set by BM25."""
    options = {"corpus.path": corpus, "index": index, "queries.path": queries, "output": output}
    overrides = [f"--retrieve.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    from corpus_reranker.dataflow.retrieve import retrieve_candidates  # Ray takes seconds to import

    try:
        settings = load_section(config, "retrieve", RetrieveConfig, [*context.args, *overrides])
        storage = load_section(config, "storage", StorageConfig, context.args)
        folder = settings.output or load_section(config, "input", InputConfig, context.args).path
        summary = retrieve_candidates(settings, storage, folder)
    except RerankerError as error:
        print(f"retrieve: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(
        f"{folder}: {summary.queries:,} queries, {summary.candidates:,} candidates;"
        f" left out {summary.queries_skipped:,} queries without text or hit (listed in _skipped.jsonl)"
    )


if __name__ == "__main__":
    app()
