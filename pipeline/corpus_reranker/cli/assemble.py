"""`corpus-reranker assemble`: makes candidates from a first-stage run, queries and a corpus."""

import dataclasses
from typing import Annotated

import typer

from corpus_reranker.cli.dataset import Dataset, Layout, Split, Subset, dataset_keys, settings_of_dataset
from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Json, command_app
from corpus_reranker.cli.printing import print_json
from corpus_reranker.formatting import counted
from corpus_reranker.retrieval.candidates import CandidatesSummary
from corpus_reranker.retrieval.settings import AssembleConfig

app = command_app()


@app.command("assemble", cls=ConfigCommand)
def assemble(
    context: typer.Context,
    config: Config = None,
    date: Date = None,
    run: Annotated[str | None, typer.Option(help="TREC run, or Parquet or JSONL: query_id, doc_id, score.")] = None,
    queries: Annotated[str | None, typer.Option(help="Queries, TSV, JSONL or Parquet: query_id, query.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Documents, JSONL or Parquet: doc_id, title, text.")] = None,
    layout: Layout = None,
    dataset: Dataset = None,
    split: Split = None,
    subset: Subset = None,
    output: Annotated[str | None, typer.Option(help="Folder for the candidates, local or s3://.")] = None,
    as_json: Json = False,
) -> None:
    """Make candidates from a first-stage run, queries and a corpus: look up the text of every id in the run.

    --from takes queries, corpus, qrels, and the run if there is one, from a dataset. Writes the candidates to --output,
    or else to input.path. Reads the config sections `dataset` and `assemble`. Candidates get the query
    texts for the reranker, even if the first stage used other texts. The corpus is streamed once.
    """
    own = {"run.path": run, "queries.path": queries, "corpus.path": corpus, "output": output}
    keys = {f"assemble.{key}": value for key, value in own.items()} | dataset_keys(layout, dataset, split, subset)
    options = JobOptions.of(context, config, date, keys)
    settings = assemble_settings(options)
    folder, summary = run_assemble(options, settings)
    if as_json:
        print_json({"output": folder, **dataclasses.asdict(summary)})
    else:
        print(
            f"{folder}: {counted(summary.queries, 'query')}, {counted(summary.candidates, 'candidate')}; skipped"
            f" {counted(summary.documents_skipped, 'document')} and {counted(summary.queries_skipped, 'query')}"
            " (see _skipped.jsonl)"
        )


def assemble_settings(options: JobOptions) -> AssembleConfig:
    """The section `assemble`, with what the section `dataset` gives. Raises ConfigError or InputError."""
    defaults = settings_of_dataset(options, "assemble", ("queries", "corpus", "run"))
    return options.section("assemble", AssembleConfig, defaults)


def run_assemble(options: JobOptions, settings: AssembleConfig) -> tuple[str, CandidatesSummary]:
    """Write the candidates, unless they are there already; return their folder and the counts."""
    from corpus_reranker.dataflow.assemble import assemble_candidates  # Ray takes seconds to import

    folder = options.candidates(settings.output)
    return folder, assemble_candidates(settings, options.storage(), folder)
