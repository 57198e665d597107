"""Rows for the MarginMSELoss of sentence-transformers.

Source of the columns: sentence_transformers/sentence_transformer/losses/margin_mse.py: (query, positive, negative_1,
..., negative_n) with the labels [score(positive), score(negative_1), ..., score(negative_n)].
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from corpus_reranker.export.formats.training_format import TrainingTable, TrainingTexts
from corpus_reranker.export.training import TrainingQuery


class MarginMse(TrainingTable):
    """Parquet with `query`, `positive`, `negative_1` ... and `label`; one row per positive.

    A query with fewer than `negatives` negatives is skipped.
    """

    @property
    def min_negatives(self) -> int:
        return self.config.negatives

    @property
    def schema(self) -> pa.Schema:
        texts = [(name, pa.string()) for name in ("query", *self._passages)]
        return pa.schema([*texts, ("label", pa.list_(pa.float64()))])

    def rows(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        for position, positive in enumerate(query.positives, 1):
            documents = (positive, *query.sample(self.config, position))
            passages = dict(zip(self._passages, texts.texts(documents), strict=True))
            yield {"query": texts.query, **passages, "label": [document.label for document in documents]}

    @property
    def _passages(self) -> list[str]:
        """Names of the columns with passages."""
        return ["positive", *(f"negative_{number}" for number in range(1, self.config.negatives + 1))]
