"""The run an output belongs to: what it was told to do, and how that differs from what it is told now."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store import ObjectStore

RUN = "_run/run.json"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """`identity` is all that decides the ranking, `queries` how many the input has; `facts` are for readers."""

    run_id: str
    fingerprint_fields: Mapping[str, Any]
    queries: int
    started: str
    info: Mapping[str, Any]


def create_run(
    control: ObjectStore, fingerprint_fields: Mapping[str, Any], queries: int, info: Mapping[str, Any] | None = None
) -> RunRecord:
    """Record a run that starts now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = RunRecord(uuid.uuid4().hex, dict(fingerprint_fields), queries, now, dict(info or {}))
    control.write(RUN, json.dumps(asdict(run), indent=1).encode())
    return run


def read_run(control: ObjectStore) -> RunRecord | None:
    """The recorded run, None if there is none. Raises OutputError if the record is not one of this version's."""
    stored = control.read(RUN)
    if stored is None:
        return None
    try:
        return RunRecord(**json.loads(stored.body))
    except (ValueError, TypeError) as error:
        raise OutputError(f"{RUN} of the output is not a run of this program's version: {error}") from error


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line each value that differs, by its dotted key: `generation.temperature: 0.0 -> 0.6`."""
    before, after = (_flat(json.loads(json.dumps(each))) for each in (dict(old), dict(new)))
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    return {
        key: leaf
        for name, child in value.items()
        for key, leaf in _flat(child, f"{prefix}.{name}" if prefix else name).items()
    }


def _shown(values: Mapping[str, Any], key: str) -> str:
    shown = json.dumps(values[key], ensure_ascii=False) if key in values else "(absent)"
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
