"""Training data of FlagEmbedding, for embedders and rerankers, with scores for distillation (`knowledge_distillation`).

Source of the fields: `AbsEmbedderTrainDataset` and `AbsRerankerTrainDataset` in FlagEmbedding/abc/finetune of
github.com/FlagOpen/FlagEmbedding. They read each .jsonl file of a folder with `datasets`, take the fields by name, and
need a negative in each line.
"""

from collections.abc import Iterator
from typing import Any

from corpus_reranker.export.formats.training_format import TrainingLines, TrainingTexts
from corpus_reranker.export.training import TrainingQuery


class FlagEmbedding(TrainingLines):
    """JSONL with `query`, `pos`, `neg`, `pos_scores` and `neg_scores`; one line per query."""

    def examples(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        negatives = query.sample(self.config)
        yield {
            "query": texts.query,
            "pos": texts.texts(query.positives),
            "neg": texts.texts(negatives),
            "pos_scores": [document.label for document in query.positives],
            "neg_scores": [document.label for document in negatives],
        }
