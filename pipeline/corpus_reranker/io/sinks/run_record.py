"""The record of the run that an output belongs to, and the differences between the settings of two runs."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyarrow.fs import FileSystem

from corpus_reranker.errors import OutputError, TransientRunError
from corpus_reranker.io.filesystem import join
from corpus_reranker.io.object_store import ObjectStore, StoredObject
from corpus_reranker.io.sinks.control_json import run_id_in

RUN = "_run/run.json"

_INPUT_FILE = "input.files."
_MAX_CHANGES = 30


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run.

    Attributes:
        run_id: Random id of the run.
        fingerprint_fields: The settings that determine the ranking, and the input (JSON values).
        queries: Number of queries of the input.
        started: Time of the first start (ISO 8601, UTC).
        info: Other values of the run, such as the version of the package (JSON values).
        starts: Number of starts. Each start rewrites the record, so that a driver that was paused past its lease finds
            another record and ends.
    """

    run_id: str
    fingerprint_fields: Mapping[str, Any]
    queries: int
    started: str
    info: Mapping[str, Any]
    starts: int


def create_run(
    control: ObjectStore,
    fingerprint_fields: Mapping[str, Any],
    queries: int,
    info: Mapping[str, Any] | None = None,
    *,
    replaced: StoredObject | None = None,
) -> RunRecord:
    """Write the record of a run that starts now. It replaces the record `replaced`, if there is one.

    Raises:
        TransientRunError: Another run has written a record in the meantime.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = RunRecord(uuid.uuid4().hex, dict(fingerprint_fields), queries, now, dict(info or {}), starts=1)
    return _write_run(control, run, replaced)


def resume_run(control: ObjectStore, recorded: StoredObject) -> RunRecord:
    """Add a start to the record. Raises as `create_run` and `read_run` do."""
    run = _parse_run(recorded)
    return _write_run(control, replace(run, starts=run.starts + 1), recorded)


def read_run(control: ObjectStore) -> RunRecord | None:
    """The record, None if there is none. Raises OutputError if another version of this program wrote it."""
    stored = control.read(RUN)
    return _parse_run(stored) if stored else None


def _write_run(control: ObjectStore, run: RunRecord, replaced: StoredObject | None) -> RunRecord:
    body = json.dumps(asdict(run), indent=1).encode()
    etag = control.replace(RUN, body, replaced.etag) if replaced else control.create(RUN, body)
    if etag is None:
        raise TransientRunError("another run has begun on the output; run the same command again")
    return run


def _parse_run(stored: StoredObject) -> RunRecord:
    try:
        return RunRecord(**json.loads(stored.body))
    except (ValueError, TypeError) as error:
        raise OutputError(f"{RUN} of the output was not written by this version of the program: {error}") from error


def find_run_id(filesystem: FileSystem, folder: str) -> str:
    """The id of the run that the output at `folder` belongs to; empty if no run wrote it."""
    path = join(folder, RUN)
    if not filesystem.get_file_info(path).is_file:
        return ""
    with filesystem.open_input_stream(path) as stream:
        return run_id_in(stream.read())


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per value that differs, with its dotted key: `generation.temperature: 0.0 -> 0.6`.

    For an input file, the line says that it is new, missing or changed. Beyond _MAX_CHANGES lines, one more line has
    the number of the others.
    """
    before, after = (flatten(json.loads(json.dumps(each))) for each in (dict(old), dict(new)))
    changes = [
        _change(before, after, key)
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]
    more = [f"and {len(changes) - _MAX_CHANGES:,} more"] if len(changes) > _MAX_CHANGES else []
    return changes[:_MAX_CHANGES] + more


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    return {
        key: leaf
        for name, child in value.items()
        for key, leaf in flatten(child, f"{prefix}.{name}" if prefix else name).items()
    }


def _change(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> str:
    if not key.startswith(_INPUT_FILE):
        return f"{key}: {_format(before, key)} -> {_format(after, key)}"
    change = "is new" if key not in before else "is missing" if key not in after else "has changed"
    return f"input file {key.removeprefix(_INPUT_FILE)} {change}"


def _format(values: Mapping[str, Any], key: str) -> str:
    text = json.dumps(values[key], ensure_ascii=False) if key in values else "(absent)"
    return text if len(text) <= 200 else f"{text[:200]}..."
