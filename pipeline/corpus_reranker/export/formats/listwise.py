"""Lists for the listwise losses of sentence-transformers' cross-encoders.

Source of the columns: `ListNetLoss` and `LambdaLoss` in sentence_transformers/cross_encoder/losses: (query,
[doc1, ..., docN]) with the labels [score1, ..., scoreN]; lists may differ in length.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from corpus_reranker.export.formats.training_format import TrainingTable, TrainingTexts
from corpus_reranker.export.training import TrainingQuery


class Listwise(TrainingTable):
    """Parquet with `query`, `docs` and `label`, best label first; one row per query."""

    schema = pa.schema([("query", pa.string()), ("docs", pa.list_(pa.string())), ("label", pa.list_(pa.float64()))])

    def rows(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        documents = (*query.positives, *query.sample(self.config))
        yield {
            "query": texts.query,
            "docs": texts.texts(documents),
            "label": [document.label for document in documents],
        }
