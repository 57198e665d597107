"""The output format "parquet": a folder of Parquet files, written in an order that loses no result in a crash."""

import json
import logging
import posixpath
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.errors import OutputConflictError, OutputError, TransientRunError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import delete_empty_folders, delete_files, list_files
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.quarantine import delete_from_quarantine
from corpus_reranker.io.run_progress import RunProgress, write_progress
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import OutputConfig, StorageConfig
from corpus_reranker.io.sinks.base import ResumePoint, Sink
from corpus_reranker.io.sinks.commit import publish_data_files, publish_file, stage_object
from corpus_reranker.io.sinks.control_json import data_files_in, run_id_in
from corpus_reranker.io.sinks.data_files import (
    ManifestEntry,
    count_values,
    list_data_files,
    reconcile,
    summarize_data_files,
)
from corpus_reranker.io.sinks.failure_reasons import FailureReasons
from corpus_reranker.io.sinks.layout import (
    CANDIDATES_FOLDER,
    CONFIG,
    DATA_FILE_PREFIX,
    MANIFEST,
    QUARANTINE_FOLDER,
    REPORT,
    RUN_FOLDER,
    SUCCESS,
    Layout,
)
from corpus_reranker.io.sinks.lease import Lease, confirm_lease
from corpus_reranker.io.sinks.run_record import RUN, RunRecord, create_run, describe_changes, read_run, resume_run
from corpus_reranker.io.sinks.uploads import abort_uploads
from corpus_reranker.io.storage_errors import output_errors
from corpus_reranker.types import QueryStatus

_logger = logging.getLogger(__name__)


class ParquetSink(Sink):
    """One output folder.

    A run that has lost its lease, after a pause of any length, changes nothing that another run has written:
    - it writes only below its own folders, and publishes files from there (commit.py);
    - it lists files, confirms the lease, and only then deletes them: names of data files are never reused;
    - it writes and deletes a control object only if the object is unchanged since before the lease was confirmed.
    """

    def __init__(self, settings: OutputConfig, storage: StorageConfig) -> None:
        self._settings = settings
        self._storage = storage
        self._layout = Layout.of(settings, storage)
        self._control: ObjectStore = open_object_store(settings.path, storage)
        self._lease_owner: str | None = None
        self._run: RunRecord | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"_layout": self._layout, "_lease_owner": self._lease_owner}
        return type(self), (self._settings, self._storage), state

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
                raise _not_of_a_run(self._url, data_files[0].base_name)
            return False
        if new_run:
            return False
        if changes := describe_changes(run.fingerprint_fields, fingerprint_fields):
            raise OutputConflictError(
                f"{self._url} holds a run with other settings, begun by {run.info.get('version')}:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nresume with the old settings and code, choose another output, or discard its rows with --new-run"
            )
        return self._finished_run_id() == run.run_id

    def lease(self, *, job_id: str | None = None, on_lost: Callable[[], None] | None = None) -> Lease:
        """As in `Sink`. A renewal gives up early enough for another attempt before the lease expires."""
        seconds = self._settings.lease_seconds
        storage = self._storage.model_copy(
            update={
                "connect_timeout_seconds": min(self._storage.connect_timeout_seconds, seconds / 8),
                "request_timeout_seconds": min(self._storage.request_timeout_seconds, seconds / 8),
                "max_attempts": min(self._storage.max_attempts, 2),
            }
        )
        renewal_control = open_object_store(self._settings.path, storage)
        lease = Lease(self._control, seconds, renewal_control=renewal_control, job_id=job_id, on_lost=on_lost)
        self._lease_owner = lease.owner
        return lease

    def begin(
        self,
        fingerprint_fields: Mapping[str, Any],
        queries: int,
        *,
        config_yaml: str,
        info: Mapping[str, Any] | None = None,
        new_run: bool = False,
    ) -> RunRecord:
        """As in `Sink`. The record is written first, so that no other run takes over files that are deleted here."""
        self.check(fingerprint_fields, new_run=new_run)
        recorded = self._control.read(RUN)
        self._confirm()
        if recorded and not new_run:
            run = resume_run(self._control, recorded)
        else:
            run = create_run(self._control, fingerprint_fields, queries, info, replaced=recorded)
        self._run, self._layout = run, replace(self._layout, run_id=run.run_id)
        if self._finished_run_id() != run.run_id:
            self._delete_object(SUCCESS)
            self._delete_files_of_manifest()
            self._delete_object(MANIFEST)
        self._delete_other_data_files()
        self._delete_folders_of_other_runs()
        self._delete_object(REPORT)
        abort_uploads(self._layout.url, self._storage, self._confirm)
        self._replace_object(CONFIG, config_yaml.encode())
        return run

    def prepare(self, query_ids: pa.ChunkedArray, *, retry: Collection[QueryStatus] = ()) -> ResumePoint:
        layout = self._layout
        if retry:
            self._delete_object(SUCCESS)
            self._delete_object(MANIFEST)
            self._delete_folder(layout.completions_folder)  # a cache hit would repeat the old completion
        self._delete_other_data_files()
        rows, files = reconcile(layout, self._confirm)
        unknown = rows.filter(pc.invert(pc.is_in(rows[QUERY_ID], value_set=query_ids)))
        if unknown.num_rows:
            raise OutputError(
                f"{self._url} holds {counted(unknown.num_rows, 'query')} unknown to the input "
                f"({unknown[QUERY_ID][0].as_py()!r}, ...); choose another output or use --new-run"
            )
        retried = pc.is_in(rows["status"], value_set=pa.array(list(retry), pa.string()))
        for folder in (layout.quarantine_folder, layout.samples_folder):
            delete_from_quarantine(layout.filesystem, folder, rows.filter(retried)[QUERY_ID].to_pylist())
        finished = pc.is_in(query_ids, value_set=rows.filter(pc.invert(retried))[QUERY_ID])
        return ResumePoint(finished, count_values(rows["status"]), files)

    def write(self, dataset: Any, schema: pa.Schema, **options: Any) -> None:
        dataset.write_parquet(self._layout.parts_folder, filesystem=self._layout.filesystem, schema=schema, **options)

    def write_file(self, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        layout, writer = self._layout, None
        try:
            for table in tables:
                if writer is None and table.num_rows:
                    layout.filesystem.create_dir(layout.parts_folder, recursive=True)
                    writer = pq.ParquetWriter(layout.new_data_file(), schema, filesystem=layout.filesystem)
                if writer is not None:
                    writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()

    def publish_progress(self, progress: RunProgress) -> None:
        assert self._run, "a run publishes its progress after `begin`"
        write_progress(self._control, self._run, progress)

    def finish(
        self, resume_point: ResumePoint, schema: pa.Schema, info: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As in `Sink`. Publishes only the data files that `prepare` found, then the manifest, then `_SUCCESS`."""
        layout, files = self._layout, resume_point.files
        if resume_point.remaining:
            raise TransientRunError(
                f"{resume_point.remaining} of {resume_point.queries} queries are not in {self._url}; "
                "run the same command again to resume"
            )
        if not files:
            path = layout.new_data_file()
            layout.filesystem.create_dir(layout.parts_folder, recursive=True)
            pq.write_table(schema.empty_table(), path, filesystem=layout.filesystem)
            files = {path: layout.filesystem.get_file_info(path).size}
        entries = summarize_data_files(layout.filesystem, files)
        manifest = self._manifest(entries, info or {})
        if manifest["queries"] != resume_point.queries:
            raise TransientRunError(f"the data files in {self._url} changed after they were checked")
        success = {key: manifest[key] for key in ("run_id", "commit_id")}
        staged = {
            name: stage_object(layout, self._control, name, json.dumps(content, indent=1).encode())
            for name, content in ((MANIFEST, manifest), (SUCCESS, success))
        }
        self._confirm()
        publish_data_files(layout, list(files), entries)
        self._delete_other_data_files({entry.name for entry in entries})
        for name, path in staged.items():
            publish_file(layout, path, name)
        try:
            for folder in (layout.path(CANDIDATES_FOLDER), *layout.work_folders):
                self._delete_folder(folder)
        except (OSError, OutputError, TransientRunError) as error:  # the output is finished
            _logger.warning("could not delete the work folders of %s: %s", self._url, error)
        return manifest

    @property
    def _url(self) -> str:
        return redact(self._layout.url)

    def _confirm(self) -> None:
        """Raise TransientRunError if another run has taken the lease. Does nothing if this sink has not taken one."""
        if self._lease_owner is not None:
            confirm_lease(self._control, self._lease_owner)

    def _finished_run_id(self) -> str | None:
        """The id of the run that wrote `_SUCCESS`; None if there is none."""
        stored = self._control.read(SUCCESS)
        return run_id_in(stored.body) if stored else None

    def _delete_object(self, name: str) -> None:
        if stored := self._control.read(name):
            self._confirm()
            self._control.delete(name, stored.etag)

    def _replace_object(self, name: str, body: bytes) -> None:
        stored = self._control.read(name)
        self._confirm()
        etag = self._control.replace(name, body, stored.etag) if stored else self._control.create(name, body)
        if etag is None:
            raise TransientRunError(f"another process has changed {name} of {self._url}; run the same command again")

    def _delete_other_data_files(self, manifest: Collection[str] | None = None) -> None:
        """Delete data files at the top that are not in the manifest, or that are of other runs if it is None."""
        prefix, paths = self._layout.data_file_prefix, []
        for info in list_data_files(self._layout.filesystem, self._layout.folder):
            if not info.base_name.startswith(DATA_FILE_PREFIX):
                raise _not_of_a_run(self._url, info.base_name)
            if not (info.base_name.startswith(prefix) if manifest is None else info.base_name in manifest):
                paths.append(info.path)
        self._delete(paths)

    def _delete_files_of_manifest(self) -> None:
        """Delete the data files that another run published, which LIST may not show yet."""
        stored = self._control.read(MANIFEST)
        names = data_files_in(stored.body) if stored else []
        others = [name for name in names if not name.startswith(self._layout.data_file_prefix)]
        self._delete([self._layout.path(name) for name in others])

    def _delete_folders_of_other_runs(self) -> None:
        """Delete the folders of other runs, and the files that this run staged for a failed commit."""
        layout = self._layout
        kept = tuple(f"{folder}/" for folder in (layout.path(CANDIDATES_FOLDER), *layout.resumed_folders))
        for folder in (layout.path(RUN_FOLDER), layout.path(QUARANTINE_FOLDER)):
            paths = [info.path for info in list_files(layout.filesystem, folder, recursive=True)]
            in_folders = [path for path in paths if posixpath.dirname(path) != layout.path(RUN_FOLDER)]
            self._delete([path for path in in_folders if not path.startswith(kept)])

    def _delete_folder(self, folder: str) -> None:
        self._delete([info.path for info in list_files(self._layout.filesystem, folder, recursive=True)])

    def _delete(self, paths: Sequence[str]) -> None:
        """Delete files that were listed before. Confirms the lease first."""
        if paths:
            self._confirm()
            delete_files(self._layout.filesystem, paths)
            delete_empty_folders(self._layout.filesystem, paths)

    def _manifest(self, entries: Sequence[ManifestEntry], info: Mapping[str, Any]) -> dict[str, Any]:
        run = read_run(self._control)
        return {
            "run_id": self._layout.run_id,
            "commit_id": uuid.uuid4().hex,  # every manifest is unique, so a conditional delete deletes no other
            "started": run.started if run else None,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "queries": sum(entry.rows for entry in entries),
            "bytes": sum(entry.bytes for entry in entries),
            "queries_by_status": dict(sum((entry.queries_by_status for entry in entries), Counter())),
            "windows_by_status": dict(sum((entry.windows_by_status for entry in entries), Counter())),
            "windows_by_flag": dict(sum((entry.windows_by_flag for entry in entries), Counter())),
            "blank_candidates": sum(entry.blank_candidates for entry in entries),
            "duplicate_candidates": sum(entry.duplicate_candidates for entry in entries),
            "reused_queries": sum(entry.reused_queries for entry in entries),
            "prompt_tokens": sum(entry.prompt_tokens for entry in entries),
            "output_tokens": sum(entry.output_tokens for entry in entries),
            "failures": sum((entry.failures for entry in entries), FailureReasons()).most_frequent(),
            "info": dict(info),
            "files": [{"name": entry.name, "rows": entry.rows, "bytes": entry.bytes} for entry in entries],
        }


def _not_of_a_run(url: str, name: str) -> OutputConflictError:
    return OutputConflictError(
        f"{url} holds Parquet files that no run of this program wrote ({name}, ...); choose an empty folder, or move"
        " them away"
    )
