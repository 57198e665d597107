"""What commands print to stdout: log lines and JSON."""

import json
import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console

_LOG_COLUMNS = 120
"""Width of tables if stdout is not a terminal."""


def terminal() -> Console:
    """The console of stdout."""
    console = Console()
    return console if console.is_terminal else Console(width=_LOG_COLUMNS)


def log(line: str, stream: TextIO | None = None) -> None:
    """Print one line with the time, and flush, so that a log file has it at once. `stream`: None is stdout."""
    print(time.strftime("%H:%M:%S"), line, file=stream, flush=True)


def print_json(value: Any) -> None:
    """Print `value` as one JSON document. Values of other types become strings."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def format_counts(counts: Mapping[str, int], none: str = "none") -> str:
    """`3 complete, 1 failed`; `none` if there is nothing."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or none


def noted_counts(manifest: Mapping[str, Any]) -> list[str]:
    """Lines with the counts of a finished run other than statuses: flagged answers, candidates that were not ranked."""
    by_flag = manifest.get("windows_by_flag")
    unranked = {
        "without text (ranked last)": manifest.get("blank_candidates", 0),
        "duplicates (dropped)": manifest.get("duplicate_candidates", 0),
    }
    candidates = {what: count for what, count in unranked.items() if count}
    return [
        *([f"flagged answers: {format_counts(by_flag)}"] if by_flag else []),
        *([f"candidates: {format_counts(candidates)}"] if candidates else []),
    ]


def failures(manifest: Mapping[str, Any]) -> list[str]:
    """One line for each of the most frequent reasons of failed queries."""
    return [f"failed: {count:,} x {reason}" for reason, count in manifest.get("failures", {}).items()]
