"""Where vLLM's processes say why they failed.

The model runs in child processes of the engine. When one fails, the parent learns no more than that it should "see
root cause above"; the cause is in the child's log. So all of them append their errors to one file, which is read
when something failed. vLLM takes a logging configuration from the environment, and its children inherit that.
"""

import itertools
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

_RECORD_START = "\x1e"
"""ASCII record separator: a traceback has many lines, so lines don't tell records apart."""

_TRACEBACK = "Traceback (most recent call last):\n"
_DIED = "died unexpectedly"
"""Logged by the engine core, without a traceback, of a worker that was killed."""

_POINTS_ELSEWHERE = "root cause"
"""In every message with which one vLLM process says that another one failed."""

_MAX_REASON_CHARACTERS = 2000


class VllmLog:
    """Errors of one engine's processes, in a file of their own.

    Nothing goes to stderr unless VLLM_LOGGING_LEVEL is set in the environment: then records of that level do.
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

    def reason(self) -> str | None:
        """What was logged first of all that tells why something failed: what follows is mostly its consequence."""
        if not self.has_records():
            return None
        records = self.path.read_text(encoding="utf-8", errors="replace").split(_RECORD_START)
        return next((reason for record in records if (reason := _reason(record))), None)

    def has_records(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def discard(self) -> None:
        """Delete the files. Not done after a failure, whose message names the log."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _reason(record: str) -> str | None:
    """The exception of a record that has one and doesn't only point at another process, or a process's death."""
    if _DIED in record:
        return record.partition(": ")[2].strip()[:_MAX_REASON_CHARACTERS]
    if _TRACEBACK not in record:
        return None
    lines = record.rpartition(_TRACEBACK)[2].splitlines()  # the last one is of the exception raised in the end
    exception = "\n".join(itertools.dropwhile(lambda line: line.startswith(" "), lines)).strip()  # frames first
    return exception[:_MAX_REASON_CHARACTERS] if exception and _POINTS_ELSEWHERE not in exception else None


def exit_reason(exit_code: int) -> str:
    """What a process that logged nothing ended of."""
    if exit_code == -signal.SIGKILL:
        return "killed by SIGKILL; often that is the system's out-of-memory killer"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
