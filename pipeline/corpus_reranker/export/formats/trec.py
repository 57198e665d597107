"""TREC runs of the reranked and of the first-stage order."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from corpus_reranker.evaluation.trec import escape_id, is_trec_id, run_lines
from corpus_reranker.export.formats.base import ExportContext, ExportFile, lines_file
from corpus_reranker.export.skipped import Reason


class TrecRun:
    """Two runs: `reranked/` and `initial/`. trec_eval sorts both by their ranks.

    A run cannot hold an id with white space, nor a document twice. Such queries and documents are skipped; ids with
    white space can be escaped instead.
    """

    single_file = True

    def __init__(self, context: ExportContext) -> None:
        self._tag = context.config.tag
        self._escape = context.config.trec_ids == "escape"
        self._skipped = context.skipped

    def files(self, name: str) -> list[ExportFile]:
        return [
            lines_file(f"reranked/{name}.trec", lambda batch: self._lines(batch, "rank", "score")),
            lines_file(f"initial/{name}.trec", lambda batch: self._lines(batch, "initial_rank", "initial_score")),
        ]

    def _lines(self, batch: pa.RecordBatch, rank: str, score: str) -> Iterator[str]:
        for row in batch.to_pylist():
            query_id = self._id(str(row["query_id"]))
            if query_id is None:
                self._skip(rank, "query_id with white space", row)
                continue
            scores: dict[str, float | None] = {}
            for entry in sorted(row["ranking"], key=lambda entry: entry[rank]):
                doc_id = self._id(entry["doc_id"])
                if doc_id is None:
                    self._skip(rank, "doc_id with white space", row, entry["doc_id"])
                elif doc_id in scores:
                    self._skip(rank, "doc_id twice", row, entry["doc_id"])
                else:
                    scores[doc_id] = entry[score]
            yield from run_lines(query_id, list(scores), list(scores.values()), self._tag)

    def _id(self, text: str) -> str | None:
        """The id as the run holds it, None if it cannot."""
        text = escape_id(text) if self._escape else text
        return text if is_trec_id(text) else None

    def _skip(self, rank: str, reason: Reason, row: dict[str, Any], doc_id: str | None = None) -> None:
        if rank == "rank":  # both runs skip the same
            self._skipped.add(reason, str(row["query_id"]), doc_id)
