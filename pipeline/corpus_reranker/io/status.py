"""The status of a run, read from its output folder alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.run_progress import RunProgress, read_progress
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.data_files import count_statuses, list_results
from corpus_reranker.io.sinks.layout import MANIFEST, SUCCESS, spend_folder
from corpus_reranker.io.sinks.lease import LEASE, LeaseHolder, parse_lease
from corpus_reranker.io.sinks.run_record import RunRecord, read_run
from corpus_reranker.io.spend import Spend, read_spend
from corpus_reranker.io.storage_errors import output_errors


@dataclass(frozen=True, slots=True)
class Status:
    """Status of one output.

    `run` is None if no run has started, and `manifest` is None until the run has finished. `holder` and `progress` are
    those of a run that may be writing now, otherwise None. `spend` is what all starts of the run have spent. While a
    run is writing, a query may briefly be in two data files and count twice.
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
    spend: Spend | None = None

    @property
    def done(self) -> int:
        return sum(self.by_status.values())

    @property
    def remaining(self) -> int | None:
        return max(self.run.queries - self.done, 0) if self.run else None


def read_status(url: str, storage: StorageConfig) -> Status:
    """The status of the output folder at `url`. Reads the control objects and the status column of the data files."""
    with output_errors(redact(url)):
        return _read_status(url, storage)


def _read_status(url: str, storage: StorageConfig) -> Status:
    filesystem, folder = resolve(url, storage)
    control = open_object_store(url, storage)
    finished = control.read(SUCCESS) is not None
    manifest = control.read(MANIFEST) if finished else None
    run = read_run(control)
    data_files = list_results(filesystem, folder) if run else []  # without a run, something else wrote them
    holder, progress = read_holder(control), read_progress(control, run) if run else None
    written = (
        datetime.fromtimestamp(data_files[0].mtime_ns / 1e9, UTC) if data_files and data_files[0].mtime_ns else None
    )
    return Status(
        run=run,
        finished=finished,
        by_status=dict(count_statuses(filesystem, data_files)),
        data_files=len(data_files),
        bytes=sum(info.size for info in data_files),
        holder=holder,
        seconds_since_last_part=(datetime.now(UTC) - written).total_seconds() if written else None,
        manifest=json.loads(manifest.body) if manifest else None,
        progress=progress[0] if holder and progress else None,
        spend=read_spend(filesystem, join(folder, spend_folder(run.run_id))) if run else None,
    )


def read_holder(control: ObjectStore) -> LeaseHolder | None:
    """The holder of the lease. None: there is none, it is dead, or it has not renewed the lease in time."""
    stored = control.read(LEASE)
    holder = parse_lease(stored) if stored else None
    if stored is None or holder is None or holder.released or stored.age_seconds() > holder.lease_seconds:
        return None
    return None if holder.is_dead() else holder
