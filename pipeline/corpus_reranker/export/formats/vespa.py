"""Feeds for `vespa feed`."""

from collections.abc import Iterator

import pyarrow as pa

from corpus_reranker.export.candidate_texts import CandidateTexts
from corpus_reranker.export.formats.base import ExportFile, lines_file, to_json
from corpus_reranker.export.formats.search_document import search_document
from corpus_reranker.export.settings import ExportConfig


class VespaFeed:
    """One `put` per query."""

    def __init__(self, config: ExportConfig, texts: CandidateTexts | None) -> None:
        self._config = config

    def files(self, name: str) -> list[ExportFile]:
        return [lines_file(f"{name}.jsonl", self._lines)]

    def _lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        for row in batch.to_pylist():
            document_id = f"id:{self._config.namespace}:{self._config.index}::{row['query_id']}"
            yield to_json({"put": document_id, "fields": search_document(row, self._config.columns)})
