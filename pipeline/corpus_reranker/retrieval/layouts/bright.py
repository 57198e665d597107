"""BRIGHT: Parquet files of `documents` and `examples` for each task.

Source: the dataset card of huggingface.co/datasets/xlangai/BRIGHT. An example has `id`, `query`, `excluded_ids`,
`gold_ids` and `gold_ids_long`; a document has `id` and `content`. Files are `examples/TASK-00000-of-00001.parquet`, or
`examples/TASK/0000.parquet` in the branch that the Hub converts.
"""

from collections.abc import Iterator

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.trec import Qrel
from corpus_reranker.retrieval.layouts.base import Collection, Dataset


def bright(dataset: Dataset) -> Collection:
    """One task, which `subset` names. The split `long` has the long documents. A run skips `excluded_ids`."""
    task = dataset.settings.subset
    if task is None:
        raise ConfigError("dataset.subset: missing; BRIGHT has a subset for each task: --subset biology, ...")
    long = dataset.split == "long"
    folder, gold = ("long_documents", "gold_ids_long") if long else ("documents", "gold_ids")
    documents = dataset.need(f"{folder}/{task}-*.parquet", f"{folder}/{task}/*.parquet")
    examples = dataset.need(f"examples/{task}-*.parquet", f"examples/{task}/*.parquet")

    def judgments() -> Iterator[Qrel]:
        for row in dataset.rows(examples):
            for doc_id in row[gold]:
                yield Qrel(str(row["id"]), doc_id, 1)

    return Collection(
        queries={"path": examples, "id_column": "id", "text_column": "query"},
        corpus={"path": documents, "id_column": "id", "text_column": "content"},
        judgments=judgments(),
    )
