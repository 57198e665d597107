"""`corpus-reranker retrieve`: finds candidates for queries in a corpus."""

import dataclasses
from typing import Annotated

import typer

from corpus_reranker.cli.dataset import Dataset, Layout, Split, Subset, dataset_keys, settings_of_dataset
from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Json, command_app
from corpus_reranker.cli.printing import print_json
from corpus_reranker.formatting import counted
from corpus_reranker.retrieval.settings import RetrieveConfig

app = command_app()


@app.command("retrieve", cls=ConfigCommand)
def retrieve(
    context: typer.Context,
    config: Config = None,
    date: Date = None,
    corpus: Annotated[str | None, typer.Option(help="Documents, JSONL or Parquet: doc_id, title, text.")] = None,
    index: Annotated[str | None, typer.Option(help="Lucene index: a folder, or the name of a prebuilt index.")] = None,
    queries: Annotated[str | None, typer.Option(help="Queries, TSV, JSONL or Parquet: query_id, query.")] = None,
    layout: Layout = None,
    dataset: Dataset = None,
    split: Split = None,
    subset: Subset = None,
    output: Annotated[str | None, typer.Option(help="Folder for the candidates, local or s3://.")] = None,
    as_json: Json = False,
) -> None:
    """Find candidates for queries with BM25 over a Lucene index. Builds the index from the corpus if it does not exist.

    --from takes queries, corpus and qrels from a dataset. Writes the candidates to --output, or else to input.path.
    Reads the config sections `dataset` and `retrieve`. Needs Java 21 or newer (JAVA_HOME) and the extra `retrieval`.
    The index must be at the same path on every node.
    """
    from corpus_reranker.dataflow.retrieve import retrieve_candidates  # Ray takes seconds to import

    own = {"corpus.path": corpus, "index": index, "queries.path": queries, "output": output}
    keys = {f"retrieve.{key}": value for key, value in own.items()} | dataset_keys(layout, dataset, split, subset)
    options = JobOptions.of(context, config, date, keys)
    defaults = settings_of_dataset(options, "retrieve", ("queries", "corpus"))
    settings = options.section("retrieve", RetrieveConfig, defaults)
    folder = options.candidates(settings.output)
    summary = retrieve_candidates(settings, options.storage(), folder)
    if as_json:
        print_json({"output": folder, **dataclasses.asdict(summary)})
    else:
        print(
            f"{folder}: {counted(summary.queries, 'query')}, {counted(summary.candidates, 'candidate')}; skipped"
            f" {counted(summary.queries_skipped, 'query')} without text or hit (see _skipped.jsonl)"
        )
