"""Where vLLM's processes say why they failed.

The model runs in child processes of the engine. When one fails, the parent learns no more than that it should "see
root cause above"; the cause is in the child's log. So all of them append their errors to one file, which is read
when something failed. vLLM takes a logging configuration from the environment, and its children inherit that.
"""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

_RECORD_START = "\x1e"
"""ASCII record separator: a traceback has many lines, so lines don't tell records apart."""

_TRACEBACK = "Traceback (most recent call last):\n"
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

    def reasons(self) -> list[str]:
        """Exceptions logged so far, oldest first, without those that only point at another process."""
        try:
            log = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        reasons = [_exception(record) for record in log.split(_RECORD_START) if _TRACEBACK in record]
        return [reason for reason in reasons if reason and _POINTS_ELSEWHERE not in reason]

    def has_records(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def discard(self) -> None:
        """Delete the files. Not done after a failure, whose message names the log."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _exception(record: str) -> str:
    """The text under the record's last traceback: the exception that was raised in the end, with its message."""
    lines = record.rpartition(_TRACEBACK)[2].splitlines()
    while lines and lines[0].startswith(" "):  # frames
        lines.pop(0)
    return "\n".join(lines).strip()[:_MAX_REASON_CHARACTERS]


def exit_reason(exit_code: int) -> str:
    """What a process that logged nothing ended of."""
    if exit_code == -signal.SIGKILL:
        return "killed by SIGKILL; often that is the system's out-of-memory killer"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
