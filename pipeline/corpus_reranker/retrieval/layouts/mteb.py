"""Retrieval and reranking tasks of mteb, as their datasets are on the Hugging Face Hub.

Source: mteb/abstasks/retrieval_dataset_loaders.py of github.com/embeddings-benchmark/mteb: the configs `corpus`,
`queries`, `default` or `qrels` (`query-id`, `corpus-id`, `score`), and for some tasks `top_ranked` (`query-id`,
`corpus-ids`) and `instruction` (`query-id`, `instruction`), each with the prefix `SUBSET-` if there are several. The
files of a config are `CONFIG/SPLIT-*.parquet`; those of `default` are also in `data`. Older datasets have BEIR's files.
"""

from typing import Any

from corpus_reranker.retrieval.layouts.base import Collection, Dataset


def mteb(dataset: Dataset) -> Collection:
    """One subset. `top_ranked` is the run of a reranking task; instructions become the column `instruction`."""
    prefix = f"{dataset.settings.subset}-" if dataset.settings.subset else ""
    corpus = _file(dataset, f"{prefix}corpus")
    queries = _file(dataset, f"{prefix}queries")
    split = dataset.split
    judged = [f"{folder}/{split}-*.parquet" for folder in (f"{prefix}qrels", "default", "data")]
    qrels = dataset.need(*judged, f"qrels/{split}.jsonl", f"qrels/{split}.tsv")
    instructions = dataset.find(f"{prefix}instruction/{split}-*.parquet", f"{prefix}instruction/*.parquet")
    return Collection(
        queries=_columns(dataset, queries, "query")
        if instructions is None
        else _with_instructions(dataset, queries, instructions),
        corpus=_columns(dataset, corpus, "text"),
        run=_run(dataset, prefix),
        judgments=dataset.qrels(qrels) if ".tsv" in qrels else dataset.qrels_of_rows(qrels),
    )


def _file(dataset: Dataset, config: str) -> str:
    return dataset.need(f"{config}/{dataset.split}-*.parquet", f"{config}/*.parquet", f"{config}.jsonl")


def _columns(dataset: Dataset, url: str, default_text_column: str) -> dict[str, Any]:
    """The settings for a file with its ids in `id` or `_id`; `_id` needs no setting."""
    first = next(dataset.rows(url), {})
    if "id" not in first or "_id" in first:
        return {"path": url}
    text = {} if default_text_column in first else {"text_column": "text"}
    return {"path": url, "id_column": "id", **text}


def _with_instructions(dataset: Dataset, queries: str, instructions: str) -> dict[str, Any]:
    by_query = {str(row["query-id"]): row["instruction"] for row in dataset.rows(instructions)}
    with dataset.write("queries.jsonl") as [write]:
        for row in dataset.rows(queries):
            query_id = str(row["_id"] if "_id" in row else row["id"])
            write({"query_id": query_id, "query": row["text"], "instruction": by_query.get(query_id)})
    return {"path": dataset.converted_file("queries.jsonl")}


def _run(dataset: Dataset, prefix: str) -> str | None:
    top_ranked = dataset.find(f"{prefix}top_ranked/{dataset.split}-*.parquet", f"{prefix}top_ranked/*.parquet")
    if top_ranked is None:
        return None
    with dataset.write("run.jsonl") as [write]:
        for row in dataset.rows(top_ranked):
            candidates = [{"doc_id": str(doc_id)} for doc_id in row["corpus-ids"]]
            write({"query_id": str(row["query-id"]), "candidates": candidates})
    return dataset.converted_file("run.jsonl")
