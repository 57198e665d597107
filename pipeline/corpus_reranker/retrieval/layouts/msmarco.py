"""MS MARCO, passages and documents, and TREC's Deep Learning tracks on them.

Source: the names and columns on microsoft.github.io/msmarco/Datasets and in the guidelines of the tracks.
"""

from corpus_reranker.retrieval.layouts.base import Collection, Dataset

_DOCUMENTS = "msmarco-docs.tsv"
_DOCUMENT_COLUMNS = ("doc_id", "url", "title", "text")


def msmarco(dataset: Dataset) -> Collection:
    """A folder with the files of passages or documents. Splits are `dev`, `dev.small`, `train`, `test2019`, ..."""
    split, year = dataset.split, dataset.split.removeprefix("test")
    if dataset.find(_DOCUMENTS) is not None:
        corpus = {"path": dataset.need(_DOCUMENTS), "tsv_columns": _DOCUMENT_COLUMNS}
        queries = dataset.need(f"msmarco-doc{split}-queries.tsv", f"msmarco-{split}-queries.tsv")
        qrels = dataset.find(f"msmarco-doc{split}-qrels.tsv", f"{year}qrels-docs.txt")
        run = dataset.find(f"msmarco-doc{split}-top100")
    else:
        corpus = {"path": dataset.need("collection.tsv")}
        queries = dataset.need(f"queries.{split}.tsv", f"msmarco-{split}-queries.tsv")
        qrels = dataset.find(f"qrels.{split}.tsv", f"{year}qrels-pass.txt")
        run = dataset.find(f"top1000.{split}", f"top1000.{split}.tsv", f"msmarco-passage{split}-top1000.tsv")
    return Collection({"path": queries}, corpus, run, None if qrels is None else dataset.qrels(qrels))
