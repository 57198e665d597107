"""Predictions of mteb, which `convert_to_reranking` of a task and its evaluation read.

Source: `_save_task_predictions` in mteb/abstasks/abstask.py of github.com/embeddings-benchmark/mteb: one JSON object
with `mteb_model_meta`, and scores by subset, split, query id and document id. mteb sorts by score.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from corpus_reranker.export.formats.base import ExportContext, ExportFile, WriteBatch, to_json


class MtebPredictions:
    """One file, `NAME_predictions.json`."""

    single_file = True

    def __init__(self, context: ExportContext) -> None:
        config = context.config
        self._model = {"model_name": config.tag, "revision": context.metadata.get("reranker.fingerprint")}
        self._subset, self._split = config.subset, config.split

    def files(self, name: str) -> list[ExportFile]:
        return [ExportFile(f"{name}_predictions.json", self._open)]

    @contextmanager
    def _open(self, stream: Any) -> Iterator[WriteBatch]:
        head = f'{{"mteb_model_meta": {to_json(self._model)}, {to_json(self._subset)}: {{{to_json(self._split)}: {{'
        stream.write(head.encode())
        separator = "\n"

        def write(batch: pa.RecordBatch) -> int:
            nonlocal separator
            for row in batch.to_pylist():
                scores = {entry["doc_id"]: entry["score"] for entry in row["ranking"]}
                stream.write(f"{separator}{to_json(str(row['query_id']))}: {to_json(scores)}".encode())
                separator = ",\n"
            return len(batch)

        yield write
        stream.write(b"\n}}}\n")
