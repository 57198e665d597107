"""Rows for the MultipleNegativesRankingLoss of sentence-transformers.

Source of the columns: sentence_transformers/sentence_transformer/losses/multiple_negatives_ranking.py: (anchor,
positive, negative_1, ..., negative_n) without a label.
"""

import pyarrow as pa

from corpus_reranker.export.formats.margin_mse import MarginMse


class HardNegatives(MarginMse):
    """Parquet with `query`, `positive` and `negative_1` ...; one row per positive."""

    @property
    def schema(self) -> pa.Schema:
        schema = super().schema
        return schema.remove(schema.get_field_index("label"))
