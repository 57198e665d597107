"""TREC runs of the reranked and of the first-stage order."""

from collections.abc import Iterator

import pyarrow as pa

from corpus_reranker.evaluation.trec import run_lines
from corpus_reranker.export.candidate_texts import CandidateTexts
from corpus_reranker.export.formats.base import ExportFile, lines_file
from corpus_reranker.export.settings import ExportConfig


class TrecRun:
    """Two runs per data file: `reranked/` and `initial/`. trec_eval sorts both by their ranks."""

    def __init__(self, config: ExportConfig, texts: CandidateTexts | None) -> None:
        self._tag = config.tag

    def files(self, name: str) -> list[ExportFile]:
        return [
            lines_file(f"reranked/{name}.trec", lambda batch: self._lines(batch, "rank", "score")),
            lines_file(f"initial/{name}.trec", lambda batch: self._lines(batch, "initial_rank", "initial_score")),
        ]

    def _lines(self, batch: pa.RecordBatch, rank: str, score: str) -> Iterator[str]:
        for row in batch.to_pylist():
            entries = sorted(row["ranking"] or (), key=lambda entry: entry[rank])
            doc_ids = [entry["doc_id"] for entry in entries]
            yield from run_lines(str(row["query_id"]), doc_ids, [entry[score] for entry in entries], self._tag)
