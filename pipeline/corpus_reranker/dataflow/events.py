"""One JSON line an event, for whoever searches logs: beside the lines a person reads, and off by default."""

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
    """Events of one process. Every line has `at`, `event`, `run_id`, `process` and what the event is about."""

    def __init__(self, target: str | None, run_id: str) -> None:
        """`target`: None for no events, "stderr", or a folder on this node. Raises ConfigError for a bad one."""
        process = f"{socket.gethostname()}-{os.getpid()}"
        self._always = {"run_id": run_id, "process": process}
        self._lock = threading.Lock()
        self._stream: TextIO | None = sys.stderr if target == "stderr" else None
        if target not in (None, "stderr"):
            try:
                Path(target).mkdir(parents=True, exist_ok=True)
                self._stream = (Path(target) / f"events-{process}.jsonl").open("a", encoding="utf-8", buffering=1)
            except OSError as error:
                raise ConfigError(f"cluster.event_log: cannot write to {target} on this node: {error}") from error

    def write(self, event: str, **about: Any) -> None:
        """Write one line, if events are wanted. A log that cannot be written any more is given up, not the run."""
        if self._stream is None:
            return
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **self._always, **about}
        try:
            with self._lock:
                self._stream.write(json.dumps(line) + "\n")
        except OSError as error:
            self._stream = None
            sys.stderr.write(f"no more events are logged: {error}\n")

    @contextlib.contextmanager
    def run(self, **about: Any) -> Iterator[None]:
        """Events for the beginning and the end, good or bad, of what is done inside."""
        self.write("run_began", **about)
        try:
            yield
        except BaseException as error:
            self.write("run_broke_off", error=f"{type(error).__name__}: {error}")
            raise
        self.write("run_finished")

    def query_finished(self, row: Mapping[str, Any]) -> None:
        """An event for each window of a query's output row, numbered as they were asked, and one for the query."""
        if self._stream is None:
            return
        for number, window in enumerate(row["windows"]):
            kept = {name: value for name, value in window.items() if name != "reasoning"}
            self.write("window", query_id=row["query_id"], window=number, **kept)
        self.write("query", query_id=row["query_id"], status=row["status"], error=row["error"])
