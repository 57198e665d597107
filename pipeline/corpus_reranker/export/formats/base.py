"""The protocol of an export format."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.evaluation.candidate_texts import CandidateTexts, QueryTexts
from corpus_reranker.evaluation.trec import Qrels
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.export.skipped import Skipped
from corpus_reranker.io.calibration import CALIBRATION_KEY

WriteBatch: TypeAlias = Callable[[pa.RecordBatch], int]
"""Writes a batch of output rows and returns how many records (lines or rows) it wrote."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export.

    Attributes:
        path: Location relative to the destination folder.
        open: Wraps the file's binary stream in a context manager that yields the function that writes batches.
    """

    path: str
    open: Callable[[Any], AbstractContextManager[WriteBatch]]


@dataclass(frozen=True, slots=True)
class ExportContext:
    """What a format may need.

    Attributes:
        config: The settings of the export.
        skipped: Takes the queries and documents that the format cannot hold.
        metadata: Key-value metadata of the output: model, template hash, fingerprint, code version.
        texts: Query and passage texts, if the export has an input.
        qrels: Judgments, if the training data has any.
        label_sources: Counts the training queries by the source of their labels.
    """

    config: ExportConfig
    skipped: Skipped
    metadata: Mapping[str, str]
    texts: CandidateTexts | None = None
    qrels: Qrels = field(default_factory=dict)
    label_sources: Counter[str] = field(default_factory=Counter)

    @property
    def calibrated(self) -> bool:
        """Whether the documents have `p_relevant`."""
        return self.config.calibration is not None or bool(self.metadata.get(CALIBRATION_KEY))


class ExportFormat(Protocol):
    """Turns batches of output rows into files, one batch at a time.

    Every row has a status that is exported, and a ranking.
    """

    def __init__(self, context: ExportContext) -> None: ...

    def files(self, name: str) -> list[ExportFile]:
        """The files that hold the rows of the data file called `name` (without its suffix)."""
        ...


def lines_file(path: str, render: Callable[[pa.RecordBatch], Iterable[str]]) -> ExportFile:
    """A text file of the lines that `render` makes of each batch, without their line breaks."""

    @contextmanager
    def open_lines(stream: Any) -> Iterator[WriteBatch]:
        def write(batch: pa.RecordBatch) -> int:
            count = 0
            for line in render(batch):
                stream.write(line.encode() + b"\n")
                count += 1
            return count

        yield write

    return ExportFile(path, open_lines)


def to_json(value: Any) -> str:
    """One line of strict JSON.

    Raises:
        OutputError: The value holds NaN or an infinity, which JSON cannot express.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError as error:
        raise OutputError(f"JSON cannot express a value of {str(value)[:200]}: {error}") from error


def passage(texts: QueryTexts, query_id: str, doc_id: str) -> dict[str, str]:
    """`text` of a document and, if it has one, `title`. Raises InputError if the candidates lack it."""
    if doc_id not in texts.passages:
        raise InputError(f"query {query_id!r}: document {doc_id!r} is not in the candidates of --input")
    found = texts.passages[doc_id]
    return {**({"title": found["title"]} if found.get("title") else {}), "text": found["text"]}
