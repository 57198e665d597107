"""What an output folder says of its run, from the folder alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.run_progress import RunProgress, read_progress
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.data_files import count_statuses, list_data_files
from corpus_reranker.io.sinks.layout import MANIFEST, SUCCESS
from corpus_reranker.io.sinks.lease import LEASE, LeaseHolder, parse_lease
from corpus_reranker.io.sinks.run_record import RunRecord, read_run


@dataclass(frozen=True, slots=True)
class Status:
    """`run` is None where none has begun, `holder` None unless a run may be writing now, `manifest` until finished.
    `progress` is what a run that may be writing now last said of itself.

    While a run is going on, a query may for a moment be in two parts and count twice.
    """

    run: RunRecord | None
    finished: bool
    by_status: Mapping[str, int]
    data_files: int
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
    control = open_object_store(url, storage)
    finished = control.read(SUCCESS) is not None
    manifest = control.read(MANIFEST) if finished else None
    data_files = list_data_files(filesystem, folder)
    holder, prefix = read_holder(control), read_progress(control)
    written = (
        datetime.fromtimestamp(data_files[0].mtime_ns / 1e9, UTC) if data_files and data_files[0].mtime_ns else None
    )
    return Status(
        run=read_run(control),
        finished=finished,
        by_status=dict(count_statuses(filesystem, folder)),
        data_files=len(data_files),
        bytes=sum(part.size for part in data_files),
        holder=holder,
        seconds_since_last_part=(datetime.now(UTC) - written).total_seconds() if written else None,
        manifest=json.loads(manifest.body) if manifest else None,
        progress=prefix[0] if holder and prefix else None,
    )


def read_holder(control: ObjectStore) -> LeaseHolder | None:
    """Who holds the lease now; None if nobody, or one who is dead or has not renewed it in time."""
    stored = control.read(LEASE)
    holder = parse_lease(stored) if stored else None
    if stored is None or holder is None or holder.released or stored.age_seconds > holder.lease_seconds:
        return None
    return None if holder.is_dead() else holder
