"""The run an output belongs to: what it was told to do, and how that differs from what it is told now."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import OutputError
from pipeline.storage.control import ControlStore

RUN = "_run/run.json"


@dataclass(frozen=True, slots=True)
class Run:
    """`identity` is all that decides the ranking, `queries` how many the input has; `facts` are for readers."""

    run_id: str
    identity: Mapping[str, Any]
    queries: int
    started: str
    facts: Mapping[str, Any]


def create_run(
    control: ControlStore, identity: Mapping[str, Any], queries: int, facts: Mapping[str, Any] | None = None
) -> Run:
    """Record a run that starts now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = Run(uuid.uuid4().hex, dict(identity), queries, now, dict(facts or {}))
    control.write(RUN, json.dumps(asdict(run), indent=1).encode())
    return run


def read_run(control: ControlStore) -> Run | None:
    """The recorded run, None if there is none. Raises OutputError if the record is not one of this version's."""
    stored = control.read(RUN)
    if stored is None:
        return None
    try:
        return Run(**json.loads(stored.body))
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
