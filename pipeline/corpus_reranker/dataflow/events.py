"""Structured event log: one JSON object per line, off by default."""

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from corpus_reranker.errors import ConfigError


class EventLog:
    """Events of one process.

    Every line has `at`, `event`, `run_id`, `process` and the fields of its event.
    """

    def __init__(self, target: str | None, run_id: str) -> None:
        """Open the log.

        Args:
            target: None for no events, "stderr", or a folder on this node.
            run_id: Written with every event.

        Raises:
            ConfigError: The folder cannot be written.
        """
        process = f"{socket.gethostname()}-{os.getpid()}"
        self._common_fields = {"run_id": run_id, "process": process}
        self._lock = threading.Lock()
        self._stream: TextIO | None = sys.stderr if target == "stderr" else None
        if target not in (None, "stderr"):
            try:
                Path(target).mkdir(parents=True, exist_ok=True)
                self._stream = (Path(target) / f"events-{process}.jsonl").open("a", encoding="utf-8", buffering=1)
            except OSError as error:
                raise ConfigError(f"cluster.event_log: cannot write to {target} on this node: {error}") from error

    def write(self, event: str, **event_fields: Any) -> None:
        """Write one line if the log is on. If that fails, the log is switched off and the run continues."""
        if self._stream is None:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "event": event, **self._common_fields, **event_fields})
        try:
            with self._lock:
                self._stream.write(line + "\n")
        except OSError as error:
            self._stream = None
            sys.stderr.write(f"event log switched off: {error}\n")

    @contextlib.contextmanager
    def run(self, **event_fields: Any) -> Iterator[None]:
        """Write `run_started` at the start, and `run_finished` or `run_failed` at the end."""
        self.write("run_started", **event_fields)
        try:
            yield
        except BaseException as error:
            self.write("run_failed", error=f"{type(error).__name__}: {error}")
            raise
        self.write("run_finished")

    def query_finished(self, row: Mapping[str, Any]) -> None:
        """Write one `window` event for each window of an output row, in order of request, and one `query` event."""
        if self._stream is None:
            return
        for number, window in enumerate(row["windows"]):
            window_fields = {name: value for name, value in window.items() if name != "reasoning"}
            self.write("window", query_id=row["query_id"], window=number, **window_fields)
        self.write("query", query_id=row["query_id"], status=row["status"], error=row["error"])
