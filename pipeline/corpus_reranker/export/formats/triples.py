"""Training triples: the top passages of a reranked list, each with negatives sampled from lower ranks."""

from collections.abc import Iterator
from typing import Any

from corpus_reranker.export.formats.training_format import TrainingLines, TrainingTexts
from corpus_reranker.export.training import LabeledDocument, TrainingQuery


class TrainingTriples(TrainingLines):
    """JSONL with `query_id`, `query`, `positive` and `negatives`; one line per positive.

    Without passage texts, documents have a doc_id and a label only.
    """

    needs_texts = False

    def examples(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        for position, positive in enumerate(query.positives, 1):
            yield {
                "query_id": query.query_id,
                "query": texts.query,
                "positive": _document(positive, texts),
                "negatives": [_document(each, texts) for each in query.sample(self.config, position)],
            }


def _document(document: LabeledDocument, texts: TrainingTexts) -> dict[str, Any]:
    known = {"doc_id": document.doc_id, "label": document.label}
    return known if texts.passages is None else {**known, **texts.passage(document.doc_id)}
