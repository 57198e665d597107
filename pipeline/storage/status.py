"""What an output folder says of its run, from the folder alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.storage.control import ControlStore, control_store
from pipeline.storage.filesystems import resolve
from pipeline.storage.lease import LEASE, LeaseHolder, parse_lease
from pipeline.storage.parts import count_statuses, list_parts
from pipeline.storage.progress import RunProgress, read_progress
from pipeline.storage.runs import Run, read_run
from pipeline.storage.settings import StorageConfig

SUCCESS = "_SUCCESS"
MANIFEST = "_manifest.json"


@dataclass(frozen=True, slots=True)
class Status:
    """`run` is None where none has begun, `holder` None unless a run may be writing now, `manifest` until finished.
    `progress` is what a run that may be writing now last said of itself.

    While a run is going on, a query may for a moment be in two parts and count twice.
    """

    run: Run | None
    finished: bool
    by_status: Mapping[str, int]
    parts: int
    bytes: int
    holder: LeaseHolder | None
    seconds_since_last_part: float | None
    manifest: Mapping[str, Any] | None
    progress: RunProgress | None

    @property
    def done(self) -> int:
        return sum(self.by_status.values())

    @property
    def remaining(self) -> int | None:
        return max(self.run.queries - self.done, 0) if self.run else None


def read_status(url: str, storage: StorageConfig) -> Status:
    """Status of the output folder at `url`, now. Reads only, and only the parts' status column."""
    filesystem, folder = resolve(url, storage)
    control = control_store(url, storage)
    finished = control.read(SUCCESS) is not None
    manifest = control.read(MANIFEST) if finished else None
    parts = list_parts(filesystem, folder)
    holder, said = read_holder(control), read_progress(control)
    written = datetime.fromtimestamp(parts[0].mtime_ns / 1e9, UTC) if parts and parts[0].mtime_ns else None
    return Status(
        run=read_run(control),
        finished=finished,
        by_status=dict(count_statuses(filesystem, folder)),
        parts=len(parts),
        bytes=sum(part.size for part in parts),
        holder=holder,
        seconds_since_last_part=(datetime.now(UTC) - written).total_seconds() if written else None,
        manifest=json.loads(manifest.body) if manifest else None,
        progress=said[0] if holder and said else None,
    )


def read_holder(control: ControlStore) -> LeaseHolder | None:
    """Who holds the lease now; None if nobody, or one who is dead or has not renewed it in time."""
    stored = control.read(LEASE)
    holder = parse_lease(stored) if stored else None
    if stored is None or holder is None or holder.released or stored.age_seconds > holder.lease_seconds:
        return None
    return None if holder.is_dead() else holder
