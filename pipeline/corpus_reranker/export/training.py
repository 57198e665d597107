"""Selects the positives, the negatives and the labels of one reranked query, from its ranks, scores and judgments."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from corpus_reranker.export.settings import LabelSource, TrainingConfig

Entry: TypeAlias = Mapping[str, Any]
"""An entry of `ranking` (io/schemas.py)."""


@dataclass(frozen=True, slots=True)
class LabeledDocument:
    """A document with its label. A higher label means a more relevant document."""

    doc_id: str
    label: float


@dataclass(frozen=True, slots=True)
class TrainingQuery:
    """What training data can take from one query.

    Attributes:
        query_id: The query.
        label_source: Source of the labels.
        positives: Best rank first.
        candidates: Documents that can be negatives, best rank first.
    """

    query_id: str
    label_source: LabelSource
    positives: tuple[LabeledDocument, ...]
    candidates: tuple[LabeledDocument, ...]

    def problem(self, min_negatives: int = 1) -> Literal["no positive", "too few negatives"] | None:
        """Why the query gives no training example, None if it gives one."""
        if not self.positives:
            return "no positive"
        return "too few negatives" if len(self.candidates) < min_negatives else None

    def sample(self, config: TrainingConfig, positive: int | None = None) -> tuple[LabeledDocument, ...]:
        """Up to `config.negatives` negatives, best rank first.

        The sample depends on the seed, the query and `positive` alone, so it does not depend on how an output is
        split into files.

        Args:
            config: The number of negatives and the seed.
            positive: Rank of the positive that the negatives are for; None if they are for all positives.
        """
        seed = f"{config.seed}/{self.query_id}" + ("" if positive is None else f"/{positive}")
        chosen = random.Random(seed).sample(range(len(self.candidates)), min(config.negatives, len(self.candidates)))
        return tuple(self.candidates[position] for position in sorted(chosen))


def select(
    query_id: str, ranking: Sequence[Entry], config: TrainingConfig, judgments: Mapping[str, int] | None = None
) -> TrainingQuery:
    """Choose the positives of a query and the documents that can be its negatives.

    Args:
        query_id: The query.
        ranking: Its documents, in any order.
        config: Ranks, labels and filters.
        judgments: doc_id -> relevance of the judged documents.
    """
    entries = sorted(ranking, key=lambda entry: entry["rank"])
    judgments = judgments or {}
    relevant = {doc_id for doc_id, grade in judgments.items() if grade >= config.min_relevance}
    label_source = config.label or _default_label_source(entries[: config.positives])

    def labeled(chosen: Sequence[Entry]) -> list[LabeledDocument]:
        values = ((entry["doc_id"], _label(entry, label_source, judgments)) for entry in chosen)
        return [LabeledDocument(doc_id, value) for doc_id, value in values if value is not None]

    positives = labeled(
        [
            entry
            for entry in entries[: config.positives]
            if entry["doc_id"] in relevant or entry["doc_id"] not in judgments
        ]
    )
    below = entries[config.min_negative_rank - 1 : config.max_negative_rank]
    candidates = labeled([entry for entry in _hard(below, entries, config) if entry["doc_id"] not in relevant])
    limit = min((each.label for each in positives), default=0.0) - config.false_negative_margin
    negatives = tuple(each for each in candidates if each.label <= limit)
    return TrainingQuery(query_id, label_source, tuple(positives), negatives)


def _default_label_source(positives: Sequence[Entry]) -> LabelSource:
    return "llm_score" if all(entry.get("llm_score") is not None for entry in positives) else "rank"


def _label(entry: Entry, source: LabelSource, judgments: Mapping[str, int]) -> float | None:
    if source == "rank":
        return 1 / int(entry["rank"])
    value = judgments.get(entry["doc_id"]) if source == "grade" else entry.get(source)
    return None if value is None else float(value)


def _hard(below: Sequence[Entry], entries: Sequence[Entry], config: TrainingConfig) -> list[Entry]:
    """The documents that the other ranking has at least `min_disagreement` ranks higher; all without a minimum.

    Args:
        below: Documents at the ranks of negatives.
        entries: All documents of the query.
        config: The minimum, and the ranking to compare with.
    """
    if config.min_disagreement is None:
        return list(below)
    other = {entry["doc_id"]: entry["initial_rank"] for entry in entries}
    if config.disagreement_with == "pre_ranker":
        scored = [entry for entry in entries if entry.get("pre_ranker_score") is not None]
        scored.sort(key=lambda entry: -entry["pre_ranker_score"])
        other = {entry["doc_id"]: rank for rank, entry in enumerate(scored, 1)}
    return [
        entry
        for entry in below
        if entry["doc_id"] in other and entry["rank"] - other[entry["doc_id"]] >= config.min_disagreement
    ]
