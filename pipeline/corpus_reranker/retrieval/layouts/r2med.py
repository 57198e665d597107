"""R2MED: `query.jsonl`, `corpus.jsonl` and `qrels.jsonl` in the folder of each dataset.

Source: the card of huggingface.co/datasets/R2MED/Biology, and mteb's `load_r2med_data`: queries and documents have `id`
and `text`, a judgment has `q_id`, `p_id` and `score`.
"""

from corpus_reranker.io.trec import Qrel
from corpus_reranker.retrieval.layouts.base import Collection, Dataset


def r2med(dataset: Dataset) -> Collection:
    """One dataset. It has neither splits nor a run."""
    qrels = dataset.need("qrels.jsonl")
    return Collection(
        queries={"path": dataset.need("query.jsonl"), "id_column": "id", "text_column": "text"},
        corpus={"path": dataset.need("corpus.jsonl"), "id_column": "id"},
        judgments=(Qrel(str(row["q_id"]), str(row["p_id"]), int(row["score"])) for row in dataset.rows(qrels)),
    )
