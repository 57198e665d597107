"""Training data of Tevatron, with the scores of its distillation.

Source of the fields: `TrainDataset` and `DistilTrainDataset` in src/tevatron/retriever/dataset.py of
github.com/texttron/tevatron. They join `title` and `text` if there is a `title`; `datasets` needs the same
fields in all passages, so a passage without a title has an empty one.
"""

from collections.abc import Iterator
from typing import Any

from corpus_reranker.export.formats.training_format import TrainingLines, TrainingTexts
from corpus_reranker.export.training import LabeledDocument, TrainingQuery


class Tevatron(TrainingLines):
    """JSONL with `query_id`, `query`, `positive_passages` and `negative_passages`; one line per query.

    A passage has `docid`, `title`, `text` and `score`.
    """

    def examples(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        yield {
            "query_id": query.query_id,
            "query": texts.query,
            "positive_passages": [_passage(each, texts) for each in query.positives],
            "negative_passages": [_passage(each, texts) for each in query.sample(self.config)],
        }


def _passage(document: LabeledDocument, texts: TrainingTexts) -> dict[str, Any]:
    return {"docid": document.doc_id, "title": "", **texts.passage(document.doc_id), "score": document.label}
