"""A process that stops itself by SIGSTOP right before or after one of its requests to the output."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest import mock

from corpus_reranker.io.sinks import commit, parquet
from corpus_reranker.io.sinks.parquet import ParquetSink

P = ParamSpec("P")
T = TypeVar("T")

PHASES = ("before the first block", "mid-run", "during the final check")

CONTROL = ("read", "create", "replace", "write", "delete")
REQUESTS = [
    (parquet, ("list_data_files", "list_files", "delete_files", "summarize_data_files", "publish_file")),
    (commit, ("publish_file",)),
]
"""By module: what it calls to read or change the output, beside its control objects."""


def is_stopped(pid: int | None) -> bool:
    """Whether a process is stopped; False if it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "T"


class StopPoint:
    """Stops the process once, at the request `number` (from 1) of a phase; 0: never.

    Attributes:
        requests: Number of requests in each phase so far.
    """

    def __init__(self, phase: str = "", number: int = 0, *, late: bool = False) -> None:
        self.requests: dict[str, int] = {}
        self._phase = phase
        self._number = number
        self._late = late
        self._current = ""

    def enter(self, phase: str) -> None:
        self._current = phase
        self.requests[phase] = 0

    def call(self, request: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a request, and stop before it or, if `late`, after it."""
        self.requests[self._current] = self.requests.get(self._current, 0) + 1
        stops = (self._current, self.requests[self._current]) == (self._phase, self._number)
        if stops:
            self._number = 0
        if stops and not self._late:
            os.kill(os.getpid(), signal.SIGSTOP)
        result = request(*args, **kwargs)
        if stops and self._late:
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    @contextlib.contextmanager
    def at_requests_of(self, sink: ParquetSink) -> Iterator[None]:
        """Count the requests of this process to the output, except those for lease renewals and data files."""
        with contextlib.ExitStack() as stack:
            owners: list[tuple[object, tuple[str, ...]]] = [(sink._control, CONTROL), *REQUESTS]
            for owner, names in owners:
                for name in names:
                    stack.enter_context(mock.patch.object(owner, name, self._counted(getattr(owner, name))))
            yield

    def _counted(self, request: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.call(request, *args, **kwargs)
