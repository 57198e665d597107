"""Requests of RankLLM, in the reranked order and with texts.

Source: `Request` and `DataWriter.write_in_jsonl_format` in src/rank_llm/data.py of github.com/castorini/rank_llm.
"""

from collections.abc import Iterator

import pyarrow as pa

from corpus_reranker.errors import InputError
from corpus_reranker.export.formats.base import ExportContext, ExportFile, lines_file, passage, to_json


class RankLlm:
    """JSONL with `query` (`text`, `qid`) and `candidates` (`docid`, `score`, `doc`); one line per query."""

    needs_texts = True

    def __init__(self, context: ExportContext) -> None:
        if context.texts is None:
            raise InputError(f"{context.config.to} needs passage texts; name the candidates with --input")
        self._texts = context.texts

    def files(self, name: str) -> list[ExportFile]:
        return [lines_file(f"{name}.jsonl", self._lines)]

    def _lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        for row in batch.to_pylist():
            query_id = str(row["query_id"])
            texts = self._texts.find(query_id)
            candidates = [
                {"docid": entry["doc_id"], "score": entry["score"], "doc": passage(texts, query_id, entry["doc_id"])}
                for entry in sorted(row["ranking"], key=lambda entry: entry["rank"])
            ]
            yield to_json({"query": {"text": texts.query, "qid": query_id}, "candidates": candidates})
