"""Base classes of the formats of training data: examples with texts, as JSON lines or as Parquet."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.candidate_texts import QueryTexts
from corpus_reranker.export.formats.base import (
    ExportContext,
    ExportFile,
    ExportFormat,
    WriteBatch,
    lines_file,
    passage,
    to_json,
)
from corpus_reranker.export.training import LabeledDocument, TrainingQuery, select

TRAIN_FOLDER = "train"
"""Folder of the files. `datasets.load_dataset` reads it as the split `train` and ignores control files next to it."""

LABELS_METADATA = b"reranker.labels"
"""Parquet metadata key: a JSON object with the number of queries by source of their labels."""


@dataclass(frozen=True, slots=True)
class TrainingTexts:
    """Texts of one query: its own, its passages by doc_id (None without an input), and the reasoning, if it is kept."""

    query: str
    passages: Mapping[str, Mapping[str, str]] | None
    reasoning: str | None

    def passage(self, doc_id: str) -> Mapping[str, str]:
        """`text` and, if there is one, `title` of a document."""
        assert self.passages is not None
        return self.passages[doc_id]

    def text(self, document: LabeledDocument) -> str:
        """Title and text in one string, joined by a space as BEIR and Tevatron join them."""
        found = self.passage(document.doc_id)
        return f"{found.get('title', '')} {found['text']}".strip()

    def texts(self, documents: Sequence[LabeledDocument]) -> list[str]:
        """`text` of each document."""
        return [self.text(document) for document in documents]


class TrainingFormat(ExportFormat):
    """A format of training data. A query without a positive, or with too few negatives, is skipped."""

    for_training = True
    needs_texts = True
    single_file = True

    def __init__(self, context: ExportContext) -> None:
        if context.texts is None and self.needs_texts:
            raise InputError(f"{context.config.to} needs passage texts; name the candidates with --input")
        self.config = context.config.training
        self._context = context

    @property
    def min_negatives(self) -> int:
        """Negatives that a query must have."""
        return 1

    def queries(self, batch: pa.RecordBatch) -> Iterator[tuple[TrainingQuery, TrainingTexts]]:
        """Each query of a batch of output rows that yields an example.

        Raises:
            InputError: A query has no text, or the input lacks one of its documents.
        """
        for row in batch.to_pylist():
            query_id = str(row["query_id"])
            selected = select(query_id, row["ranking"], self.config, self._context.qrels.get(query_id))
            if problem := selected.problem(self.min_negatives):
                self._context.skipped.add(problem, query_id)
                continue
            self._context.label_sources[selected.label_source] += 1
            yield selected, self._texts(row, selected)

    def _texts(self, row: Mapping[str, Any], selected: TrainingQuery) -> TrainingTexts:
        texts = self._context.texts
        found = texts.find(selected.query_id) if texts else QueryTexts(row.get("query") or "", {})
        if not found.query:
            raise InputError(f"query {selected.query_id!r} has no text in the output; name its candidates with --input")
        if texts is None:
            return TrainingTexts(found.query, None, self._reasoning(row))
        documents = (*selected.positives, *selected.candidates)
        passages = {each.doc_id: passage(found, selected.query_id, each.doc_id) for each in documents}
        return TrainingTexts(found.query, passages, self._reasoning(row))

    def _reasoning(self, row: Mapping[str, Any]) -> str | None:
        """The reasoning of the last window that holds the first ranks."""
        if not self.config.reasoning:
            return None
        windows = reversed(row.get("windows") or ())
        return next((each["reasoning"] for each in windows if each["start"] == 0 and each["reasoning"]), None)


class TrainingLines(TrainingFormat):
    """Training data as JSON lines. A line's `label_source` names the source of its labels."""

    keeps_reasoning = True

    def files(self, name: str) -> list[ExportFile]:
        return [lines_file(f"{TRAIN_FOLDER}/{name}.jsonl", self._lines)]

    @abstractmethod
    def examples(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        """The objects of a query's lines."""

    def _lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        for query, texts in self.queries(batch):
            for example in self.examples(query, texts):
                reasoning = {"reasoning": texts.reasoning} if self.config.reasoning else {}
                yield to_json({**example, "label_source": query.label_source, **reasoning})


class TrainingTable(TrainingFormat):
    """Training data as Parquet for sentence-transformers.

    Its trainers take `label` as the label and every other column as an input, in the order of the columns
    (sentence_transformers/base/data_collator.py). The source of the labels is in the file's metadata.
    """

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Schema of the files."""

    @abstractmethod
    def rows(self, query: TrainingQuery, texts: TrainingTexts) -> Iterator[dict[str, Any]]:
        """The rows of a query."""

    def files(self, name: str) -> list[ExportFile]:
        return [ExportFile(f"{TRAIN_FOLDER}/{name}.parquet", self._open)]

    @contextmanager
    def _open(self, stream: Any) -> Iterator[WriteBatch]:
        schema = self.schema.with_metadata(dict(self._context.metadata))
        before = self._context.label_sources.copy()
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:

            def write(batch: pa.RecordBatch) -> int:
                rows = [row for query, texts in self.queries(batch) for row in self.rows(query, texts)]
                if rows:  # `datasets` cannot read a file whose first row group is empty
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                return len(rows)

            yield write
            sources = self._context.label_sources - before
            writer.add_key_value_metadata({LABELS_METADATA: to_json(sources).encode()})
