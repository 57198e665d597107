"""BEIR: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`.

Source: `GenericDataLoader` in beir/datasets/data_loader.py of github.com/beir-cellar/beir.
"""

from corpus_reranker.retrieval.layouts.base import Collection, Dataset


def beir(dataset: Dataset) -> Collection:
    """A folder in the form of BEIR's archives, which hold no run. A folder without `qrels` has no judgments."""
    has_qrels = dataset.find("qrels/*.tsv") is not None
    qrels = dataset.need(f"qrels/{dataset.split}.tsv") if has_qrels else None
    return Collection(
        queries={"path": dataset.need("queries.jsonl")},
        corpus={"path": dataset.need("corpus.jsonl")},
        judgments=None if qrels is None else dataset.qrels(qrels),
    )
