"""The output format "parquet": a folder of Parquet files, in an order of writes such that no crash loses a result."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.errors import OutputError, RunError
from corpus_reranker.io.filesystem import delete_folder, redact
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.quarantine import delete_from_quarantine
from corpus_reranker.io.run_progress import RunProgress, write_progress
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.settings import OutputConfig, StorageConfig
from corpus_reranker.io.sinks.base import ResumePoint, Sink
from corpus_reranker.io.sinks.data_files import count_values, list_data_files, reconcile, summarize_data_files
from corpus_reranker.io.sinks.failure_reasons import FailureReasons
from corpus_reranker.io.sinks.layout import CONFIG, MANIFEST, SUCCESS, TEMPORARY_FOLDER, WORK_FOLDERS, Layout
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.io.sinks.run_record import RUN, RunRecord, create_run, describe_changes, read_run
from corpus_reranker.io.storage_errors import output_errors
from corpus_reranker.types import QueryStatus

_logger = logging.getLogger(__name__)


class ParquetSink(Sink):
    """One output folder."""

    def __init__(self, settings: OutputConfig, storage: StorageConfig) -> None:
        self._settings = settings
        self._storage = storage
        self._layout = Layout.of(settings, storage)
        self._control: ObjectStore = open_object_store(settings.path, storage)

    def __reduce__(self) -> tuple[type["ParquetSink"], tuple[OutputConfig, StorageConfig]]:
        return type(self), (self._settings, self._storage)

    @property
    def layout(self) -> Layout:
        return self._layout

    def record(self) -> RunRecord | None:
        with output_errors(self._url):
            return read_run(self._control)

    def check(self, fingerprint_fields: Mapping[str, Any], *, new_run: bool = False) -> bool:
        with output_errors(self._url):
            return self._check(fingerprint_fields, new_run)

    def _check(self, fingerprint_fields: Mapping[str, Any], new_run: bool) -> bool:
        run = read_run(self._control)
        if run is None:
            if data_files := list_data_files(self._layout.filesystem, self._layout.folder):
                raise OutputError(
                    f"{self._url} holds Parquet files that no run of this program wrote "
                    f"({data_files[0].base_name}, ...); choose an empty folder"
                )
            return False
        if new_run:
            return False
        if changes := describe_changes(run.fingerprint_fields, fingerprint_fields):
            raise OutputError(
                f"{self._url} holds a run with other settings, begun by version {run.info.get('version')}:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nresume with the old settings and code, choose another output, or discard its rows with --new-run"
            )
        return self._control.read(SUCCESS) is not None

    def lease(self, *, job_id: str | None = None, on_lost: Callable[[], None] | None = None) -> Lease:
        """As in `Sink`. A request of the lease gives up early enough for another attempt before the lease expires."""
        seconds = self._settings.lease_seconds
        storage = self._storage.model_copy(
            update={
                "connect_timeout_seconds": min(self._storage.connect_timeout_seconds, seconds / 8),
                "request_timeout_seconds": min(self._storage.request_timeout_seconds, seconds / 8),
                "max_attempts": min(self._storage.max_attempts, 2),
            }
        )
        renewal_control = open_object_store(self._settings.path, storage)
        return Lease(self._control, seconds, renewal_control=renewal_control, job_id=job_id, on_lost=on_lost)

    def discard(self) -> None:
        """As in `Sink`. The run record goes last: until then the folder is known to hold a part of that run."""
        filesystem = self._layout.filesystem
        self._control.delete(SUCCESS)
        self._control.delete(MANIFEST)
        for data_file in list_data_files(filesystem, self._layout.folder):
            filesystem.delete_file(data_file.path)
        for folder in (self._layout.quarantine_folder, self._layout.samples_folder):
            delete_folder(filesystem, folder)
        self._delete_work_folders()
        self._control.delete(RUN)

    def begin(
        self,
        fingerprint_fields: Mapping[str, Any],
        queries: int,
        *,
        config_yaml: str,
        info: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        self.check(fingerprint_fields)
        run = read_run(self._control) or create_run(self._control, fingerprint_fields, queries, info)
        self._control.write(CONFIG, config_yaml.encode())
        return run

    def prepare(self, query_ids: pa.ChunkedArray, *, retry: Collection[QueryStatus] = ()) -> ResumePoint:
        layout = self._layout
        if retry:
            self._control.delete(SUCCESS)
            self._control.delete(MANIFEST)
            delete_folder(layout.filesystem, layout.completions_folder)  # a cache hit would repeat the old completion
        rows = reconcile(layout.filesystem, layout.folder, layout.path(TEMPORARY_FOLDER))
        unknown = rows.filter(pc.invert(pc.is_in(rows[QUERY_ID], value_set=query_ids)))
        if unknown.num_rows:
            raise OutputError(
                f"{self._url} holds {unknown.num_rows} queries that the input does not have "
                f"({unknown[QUERY_ID][0].as_py()!r}, ...); choose another output or use --new-run"
            )
        retried = pc.is_in(rows["status"], value_set=pa.array(list(retry), pa.string()))
        for folder in (layout.quarantine_folder, layout.samples_folder):
            delete_from_quarantine(layout.filesystem, folder, rows.filter(retried)[QUERY_ID].to_pylist())
        finished = pc.is_in(query_ids, value_set=rows.filter(pc.invert(retried))[QUERY_ID])
        return ResumePoint(finished, count_values(rows["status"]))

    def write(self, dataset: Any, schema: pa.Schema, **options: Any) -> None:
        dataset.write_parquet(self._layout.folder, filesystem=self._layout.filesystem, schema=schema, **options)

    def publish(self, progress: RunProgress) -> None:
        write_progress(self._control, progress)

    def finish(
        self, resume_point: ResumePoint, schema: pa.Schema, info: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As in `Sink`. Writes the manifest, then `_SUCCESS`."""
        layout = self._layout
        if resume_point.remaining:
            raise RunError(
                f"{resume_point.remaining} of {resume_point.queries} queries are not in {self._url}; "
                "run the same command again to resume"
            )
        if not resume_point.queries and not list_data_files(layout.filesystem, layout.folder):
            pq.write_table(schema.empty_table(), layout.path("part-empty.parquet"), filesystem=layout.filesystem)
        manifest = self._manifest(info or {})
        self._control.write(MANIFEST, json.dumps(manifest, indent=1).encode())
        self._control.write(SUCCESS, b"")
        try:
            self._delete_work_folders()
        except (OSError, OutputError) as error:  # the output is finished
            _logger.warning("could not delete the work folders of %s: %s", self._url, error)
        return manifest

    @property
    def _url(self) -> str:
        return redact(self._layout.url)

    def _delete_work_folders(self) -> None:
        for name in WORK_FOLDERS:
            delete_folder(self._layout.filesystem, self._layout.path(name))

    def _manifest(self, info: Mapping[str, Any]) -> dict[str, Any]:
        entries = summarize_data_files(self._layout.filesystem, self._layout.folder)
        run = read_run(self._control)
        return {
            "run_id": run.run_id if run else None,
            "started": run.started if run else None,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "queries": sum(entry.rows for entry in entries),
            "bytes": sum(entry.bytes for entry in entries),
            "queries_by_status": dict(sum((entry.queries_by_status for entry in entries), Counter())),
            "windows_by_status": dict(sum((entry.windows_by_status for entry in entries), Counter())),
            "windows_by_flag": dict(sum((entry.windows_by_flag for entry in entries), Counter())),
            "blank_candidates": sum(entry.blank_candidates for entry in entries),
            "duplicate_candidates": sum(entry.duplicate_candidates for entry in entries),
            "prompt_tokens": sum(entry.prompt_tokens for entry in entries),
            "output_tokens": sum(entry.output_tokens for entry in entries),
            "failures": sum((entry.failures for entry in entries), FailureReasons()).most_frequent(),
            "info": dict(info),
            "files": [{"name": entry.name, "rows": entry.rows, "bytes": entry.bytes} for entry in entries],
        }
