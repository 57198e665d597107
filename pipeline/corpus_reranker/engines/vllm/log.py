"""Finds the reason for a failure in the logs of vLLM's processes.

The model runs in child processes of the engine. When one fails, the parent's error only says "see root cause above";
the cause is in the child's log. All processes therefore append their errors to one file, which is read after a failure.
vLLM takes a logging configuration from the environment, and its children inherit the environment.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

_CONFIGURATION_VARIABLE = "VLLM_LOGGING_CONFIG_PATH"

_RECORD_START = "\x1e"
"""ASCII record separator: line breaks cannot separate records, because a traceback has several lines."""

_TRACEBACK = "Traceback (most recent call last):\n"
_DIED = "died unexpectedly"
"""The engine core logs this, without a traceback, about a worker that was killed."""

_POINTS_ELSEWHERE = "root cause"
"""Part of every message with which one vLLM process reports that another one failed."""

_MAX_REASON_CHARACTERS = 2000


class VllmLog:
    """The errors of one engine's processes, in one file.

    Nothing is written to stderr, unless VLLM_LOGGING_LEVEL is set in the environment. Records of that level and above
    are then written there.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="reranker-vllm-"))
        self.path = self._folder / "errors.log"

    def configuration(self) -> str:
        """Path of a logging configuration (JSON of logging.config.dictConfig) that appends errors to `path`."""
        level = os.environ.get("VLLM_LOGGING_LEVEL", "").upper()
        handlers: dict[str, dict[str, str]] = {
            "errors": {
                "class": "logging.FileHandler",
                "filename": str(self.path),
                "level": "ERROR",
                "formatter": "record",
                "encoding": "utf-8",
            }
        }
        if level:
            handlers["stderr"] = {"class": "logging.StreamHandler", "level": level, "formatter": "line"}
        configuration = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "record": {"format": f"{_RECORD_START}%(asctime)s %(processName)s %(name)s: %(message)s"},
                "line": {"format": "%(asctime)s vllm %(processName)s %(levelname)s %(message)s"},
            },
            "handlers": handlers,
            "loggers": {"vllm": {"handlers": list(handlers), "level": level or "ERROR", "propagate": False}},
        }
        path = self._folder / "logging.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")
        return str(path)

    @contextlib.contextmanager
    def in_environment(self) -> Iterator[None]:
        """Make processes that start inside the block log here, unless the environment already has a configuration."""
        if _CONFIGURATION_VARIABLE in os.environ:
            yield
            return
        os.environ[_CONFIGURATION_VARIABLE] = self.configuration()
        try:
            yield
        finally:
            os.environ.pop(_CONFIGURATION_VARIABLE, None)

    def reason(self) -> str | None:
        """The first record that names a cause, because later ones are mostly consequences. None: no record does."""
        if not self.has_records():
            return None
        records = self.path.read_text(encoding="utf-8", errors="replace").split(_RECORD_START)
        return next((reason for record in records if (reason := _reason(record))), None)

    def has_records(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def discard(self) -> None:
        """Delete the files. After a failure they are kept, because its message names the log."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _reason(record: str) -> str | None:
    """The exception in a record, or the death of a process. None for a record that only points at another process."""
    if _DIED in record:
        return record.partition(": ")[2].strip()[:_MAX_REASON_CHARACTERS]
    if _TRACEBACK not in record:
        return None
    lines = record.rpartition(_TRACEBACK)[2].splitlines()  # the last traceback has the final exception
    exception = "\n".join(itertools.dropwhile(lambda line: line.startswith(" "), lines)).strip()  # frames first
    return exception[:_MAX_REASON_CHARACTERS] if exception and _POINTS_ELSEWHERE not in exception else None


def failure_reason(log: VllmLog, error: BaseException, exit_codes: Sequence[int]) -> str:
    """Why vLLM failed: the children's log, else invalid arguments, else the children's exit code, else the error."""
    if logged := log.reason():
        reason = logged
    elif isinstance(error, ValidationError):
        reason = "; ".join(_validation_message(problem) for problem in error.errors())
    elif exit_codes:
        reason = f"its engine core was {exit_reason(exit_codes[0])}"
    else:
        reason = f"{type(error).__name__}: {error}"
    if not log.has_records():
        log.discard()
        return reason
    return f"{reason}\n(log of vLLM's errors: {log.path})"


def exit_reason(exit_code: int) -> str:
    """Describe the end of a process that has logged no error."""
    if exit_code == -signal.SIGKILL:
        return "killed by SIGKILL; often that is the system's out-of-memory killer"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def _validation_message(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return ".".join(str(part) for part in problem["loc"]) + (": " if problem["loc"] else "") + message
