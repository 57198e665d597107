"""The record of the run that an output belongs to, and how its settings differ from others."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store import ObjectStore

RUN = "_run/run.json"

_INPUT_FILE = "input.files."
_MAX_CHANGES = 30


@dataclass(frozen=True, slots=True)
class RunRecord:
    """`fingerprint_fields` decide the ranking, `queries` is their number in the input, `info` is what else is known."""

    run_id: str
    fingerprint_fields: Mapping[str, Any]
    queries: int
    started: str
    info: Mapping[str, Any]


def create_run(
    control: ObjectStore, fingerprint_fields: Mapping[str, Any], queries: int, info: Mapping[str, Any] | None = None
) -> RunRecord:
    """Write the record of a run that starts now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = RunRecord(uuid.uuid4().hex, dict(fingerprint_fields), queries, now, dict(info or {}))
    control.write(RUN, json.dumps(asdict(run), indent=1).encode())
    return run


def read_run(control: ObjectStore) -> RunRecord | None:
    """The record, None if there is none. Raises OutputError if another version of this program wrote it."""
    stored = control.read(RUN)
    if stored is None:
        return None
    try:
        return RunRecord(**json.loads(stored.body))
    except (ValueError, TypeError) as error:
        raise OutputError(f"{RUN} of the output was not written by this version of the program: {error}") from error


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per value that differs, with its dotted key: `generation.temperature: 0.0 -> 0.6`.

    Files of the input are told as new, gone or changed. At most _MAX_CHANGES lines.
    """
    before, after = (_flatten(json.loads(json.dumps(each))) for each in (dict(old), dict(new)))
    changes = [
        _change(before, after, key)
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]
    more = [f"and {len(changes) - _MAX_CHANGES:,} more"] if len(changes) > _MAX_CHANGES else []
    return changes[:_MAX_CHANGES] + more


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    return {
        key: leaf
        for name, child in value.items()
        for key, leaf in _flatten(child, f"{prefix}.{name}" if prefix else name).items()
    }


def _change(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> str:
    if not key.startswith(_INPUT_FILE):
        return f"{key}: {_format(before, key)} -> {_format(after, key)}"
    change = "is new" if key not in before else "is gone" if key not in after else "has another content"
    return f"input file {key.removeprefix(_INPUT_FILE)} {change}"


def _format(values: Mapping[str, Any], key: str) -> str:
    text = json.dumps(values[key], ensure_ascii=False) if key in values else "(absent)"
    return text if len(text) <= 200 else f"{text[:200]}..."
