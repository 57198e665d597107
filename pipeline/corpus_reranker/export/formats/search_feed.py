"""Feeds of search engines: files of JSON lines that store one document for each query."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from corpus_reranker.export.formats.base import ExportContext, ExportFile, ExportFormat, lines_file
from corpus_reranker.export.skipped import Reason
from corpus_reranker.io.calibration import P_RELEVANT


class SearchFeed(ExportFormat):
    """Base of the feeds. Documents that the search engine refuses are skipped."""

    def __init__(self, context: ExportContext) -> None:
        self.config = context.config
        self._skipped = context.skipped
        self._fields = ("doc_id", "rank", "score", *([P_RELEVANT] if context.calibrated else []))

    def files(self, name: str) -> list[ExportFile]:
        return [lines_file(f"{name}.jsonl", self._lines)]

    @abstractmethod
    def lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        """The lines that store the document."""

    @abstractmethod
    def refused(self, document: Mapping[str, Any]) -> Reason | None:
        """Why the engine refuses the document, None if it accepts it."""

    def document(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The document with a query's ranking, best first."""
        entries = sorted(row["ranking"], key=lambda entry: entry["rank"])
        return {
            "query_id": str(row["query_id"]),
            **{column: row[column] for column in self.config.columns if row.get(column) is not None},
            "status": row["status"],
            "ranking": [{key: entry[key] for key in self._fields} for entry in entries],
        }

    def _lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        for row in batch.to_pylist():
            document = self.document(row)
            reason = self.refused(document)
            if reason is None:
                yield from self.lines(document)
            else:
                self._skipped.add(reason, document["query_id"])
