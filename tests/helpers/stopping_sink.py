"""A Parquet sink that stops its driver by SIGSTOP at a request to the output: `output.format` of paused_command.py."""

import threading
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from corpus_reranker.io.sinks.base import ResumePoint
from corpus_reranker.io.sinks.data_files import list_run_files
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sinks.run_record import RunRecord
from helpers.stop_points import PHASES, StopPoint

BEFORE, DURING, AT_END = PHASES

_STOPS: list[StopPoint] = []
"""That of this process, which stops once, although a restarted run opens another sink."""


class StoppingSink(ParquetSink):
    """`output.options` are the phase, and the number of the request in it; mid-run, the number of data files."""

    def begin(self, *args: Any, **kwargs: Any) -> RunRecord:
        with self._stop(BEFORE).at_requests_of(self):
            return super().begin(*args, **kwargs)

    def write(self, dataset: Any, schema: pa.Schema, **options: Any) -> None:
        ended = threading.Event()
        watch = threading.Thread(target=self._stop_at_data_files, args=(self._stop(DURING), ended), daemon=True)
        watch.start()
        try:
            super().write(dataset, schema, **options)
        finally:
            ended.set()
            watch.join()

    def finish(
        self, resume_point: ResumePoint, schema: pa.Schema, info: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        with self._stop(AT_END).at_requests_of(self):
            return super().finish(resume_point, schema, info)

    def _stop(self, phase: str) -> StopPoint:
        if not _STOPS:
            _STOPS.append(StopPoint(**self._settings.options))
        _STOPS[0].enter(phase)
        return _STOPS[0]

    def _stop_at_data_files(self, stop: StopPoint, ended: threading.Event) -> None:
        layout, seen = self.layout, 0
        while not ended.wait(0.01):
            for _ in range(seen, len(list_run_files(layout.filesystem, layout.folder, layout.run_id))):
                seen += 1
                stop.call(lambda: None)
