"""The output folder of a run: what lies where in it, and in which order, so that a crash at any point loses nothing.

    part-*.parquet          the results; all that a reader of the folder sees
    _SUCCESS                written last: every query of the input is in the parts exactly once
    _manifest.json          the parts with their rows, and what the run did
    _lease.json  _lock      who is writing; _lock only on local disk
    _run/run.json           the run's identity: all that decides the ranking
    _run/config.yaml        the effective config
    _run/progress.json      where the run stands, every few seconds, for corpus-reranker status and corpus-reranker watch
    _run/checkpoint/        Ray Data's, rebuilt from the parts before each pass
    _run/candidates/        a nested copy of an input in long form
    _run/journal/           completions of queries that are not in the parts yet (journal.py)
    _run/tmp/               parts being written again
    _run/samples/           all windows of a few queries, with prompts and responses
    _quarantine/*.parquet   prompts and responses of windows that were not complete

A run: `check`, `lease`, then under it `discard` for a new run, `begin`, `prepare` and a pass over what remains until
nothing does, `finish`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.cache.completions import COMPLETIONS_FOLDER, CompletionCache, completion_index
from corpus_reranker.errors import OutputError, RunError
from corpus_reranker.io.filesystem import delete_folder, join, redact, resolve
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.quarantine import QUARANTINE_FOLDER, SAMPLES_FOLDER, delete_from_quarantine
from corpus_reranker.io.run_progress import RunProgress, write_progress
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.settings import OutputConfig, StorageConfig
from corpus_reranker.io.sinks.data_files import (
    count_values,
    data_file_info,
    list_data_files,
    reconcile,
    write_checkpoint,
)
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.io.sinks.run_record import RUN, RunRecord, create_run, describe_changes, read_run
from corpus_reranker.io.status import MANIFEST, SUCCESS
from corpus_reranker.types import QueryStatus

CONFIG = "_run/config.yaml"
WORK_FOLDERS = ("checkpoint", "candidates", "completion_cache", "tmp")


@dataclass(frozen=True, slots=True)
class OutputState:
    """What is in the parts. `done` queries need no pass any more."""

    queries: int
    by_status: Mapping[str, int]
    done: int

    @property
    def remaining(self) -> int:
        return self.queries - self.done


class Output:
    """One output folder. Making one touches nothing. Everything that writes is safe to repeat after a crash.

    It can be pickled: what needs memory for each query runs `apart`.
    """

    def __init__(self, settings: OutputConfig, storage: StorageConfig) -> None:
        self.url = settings.path
        self.filesystem: FileSystem
        self.filesystem, self.folder = resolve(settings.path, storage)
        self._settings = settings
        self._storage = storage
        self._control: ObjectStore = open_object_store(settings.path, storage)

    def __reduce__(self) -> tuple[type["Output"], tuple[OutputConfig, StorageConfig]]:
        return Output, (self._settings, self._storage)

    @property
    def checkpoint_folder(self) -> str:
        return join(self.folder, "_run", "checkpoint")

    @property
    def quarantine_folder(self) -> str:
        return join(self.folder, QUARANTINE_FOLDER)

    @property
    def samples_folder(self) -> str:
        return join(self.folder, SAMPLES_FOLDER)

    @property
    def candidates_url(self) -> str:
        """For `nesting.nested_input`."""
        return join(self.url, "_run", "candidates")

    def check(self, fingerprint_fields: Mapping[str, Any], *, new_run: bool = False) -> bool:
        """Whether a run of this identity has finished here already. Writes nothing.

        Raises OutputError if the folder holds another run's results, with what differs, or Parquet files of no run.
        """
        run = read_run(self._control)
        if run is None:
            if data_files := list_data_files(self.filesystem, self.folder):
                raise OutputError(
                    f"{redact(self.url)} holds Parquet files that no run of this program wrote "
                    f"({data_files[0].base_name}, ...); choose an empty folder"
                )
            return False
        if new_run:
            return False
        if changes := describe_changes(run.fingerprint_fields, fingerprint_fields):
            raise OutputError(
                f"{redact(self.url)} holds a run with other settings:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\ngo on with the old settings, choose another output, or discard its results with --new-run"
            )
        return self._control.read(SUCCESS) is not None

    def lease(self, *, job_id: str | None = None, on_lost: Callable[[], None] | None = None) -> Lease:
        """The lease on this output, not taken yet. Its requests give up in time to try again before it expires."""
        seconds = self._settings.lease_seconds
        storage = self._storage.model_copy(
            update={
                "connect_timeout_seconds": min(self._storage.connect_timeout_seconds, seconds / 8),
                "request_timeout_seconds": min(self._storage.request_timeout_seconds, seconds / 8),
                "max_attempts": min(self._storage.max_attempts, 2),
            }
        )
        return Lease(open_object_store(self.url, storage), seconds, job_id=job_id, on_lost=on_lost)

    def begin(
        self,
        fingerprint_fields: Mapping[str, Any],
        queries: int,
        *,
        config_yaml: str,
        info: Mapping[str, Any] | None = None,
        new_run: bool = False,
    ) -> RunRecord:
        """Record the run, or find the one that is being resumed. With `new_run` all that lies here goes first."""
        self.check(fingerprint_fields, new_run=new_run)
        if new_run:
            self.discard()
        run = read_run(self._control)
        if run is None:
            run = create_run(self._control, fingerprint_fields, queries, info)
        self._control.write(CONFIG, config_yaml.encode())
        return run

    def prepare(self, query_ids: pa.ChunkedArray, *, retry: Collection[QueryStatus] = ()) -> OutputState:
        """Bring parts and checkpoint to a state from which a pass over the input does what remains, and only that.

        `query_ids` are the input's. Queries whose status is in `retry` count as not done; their rows stay until
        better or newer ones are there. Raises OutputError if the parts hold queries that the input has not.
        """
        if retry:
            self._control.delete(SUCCESS)
            self._control.delete(MANIFEST)
            delete_folder(self.filesystem, self._completions_folder)  # to hear other answers
        rows = reconcile(self.filesystem, self.folder, join(self.folder, "_run", "tmp"))
        unknown = rows.filter(pc.invert(pc.is_in(rows[QUERY_ID], value_set=query_ids)))
        if unknown.num_rows:
            raise OutputError(
                f"{redact(self.url)} holds {unknown.num_rows} queries that the input has not "
                f"({unknown[QUERY_ID][0].as_py()!r}, ...); choose another output or use --new-run"
            )
        again = pc.is_in(rows["status"], value_set=pa.array(list(retry), pa.string()))
        for folder in (self.quarantine_folder, self.samples_folder):
            delete_from_quarantine(self.filesystem, folder, rows.filter(again)[QUERY_ID].to_pylist())
        done = rows.filter(pc.invert(again))[QUERY_ID]
        write_checkpoint(self.filesystem, self.checkpoint_folder, done)
        return OutputState(len(query_ids), count_values(rows["status"]), len(done))

    def completion_index(self) -> dict[str, list[str]]:
        """Where the completions of queries that earlier passes left unfinished are, for `journal`."""
        return completion_index(self.filesystem, self._completions_folder)

    def completion_cache(
        self, replica: str, index: Mapping[str, Sequence[str]], count: Callable[[str], None]
    ) -> CompletionCache:
        """A replica's journal. One that was here before under this name goes on with its own, too."""
        both = defaultdict(list, {query_id: list(names) for query_id, names in index.items()})
        for query_id, names in completion_index(self.filesystem, self._completions_folder, under=replica).items():
            both[query_id] += names
        return CompletionCache(
            open_object_store(join(self.url, COMPLETIONS_FOLDER), self._storage), replica, both, count
        )

    @property
    def _completions_folder(self) -> str:
        return join(self.folder, COMPLETIONS_FOLDER)

    def publish(self, progress: RunProgress) -> None:
        """Say where the run stands, for whoever looks at the output meanwhile."""
        write_progress(self._control, progress)

    def finish(self, progress: OutputState, schema: pa.Schema, info: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the manifest, then `_SUCCESS`, and return the manifest.

        `progress` is what `prepare` found after the last pass: every query is there exactly once, or RunError says
        how many are missing. `schema` is that of the output, for the empty file an input without queries gives.
        """
        if progress.remaining:
            raise RunError(
                f"{progress.remaining} of {progress.queries} queries are not in {redact(self.url)}; run again to go on"
            )
        if not progress.queries and not list_data_files(self.filesystem, self.folder):
            pq.write_table(schema.empty_table(), join(self.folder, "part-empty.parquet"), filesystem=self.filesystem)
        manifest = self._manifest(info or {})
        self._control.write(MANIFEST, json.dumps(manifest, indent=1).encode())
        self._control.write(SUCCESS, b"")
        for name in WORK_FOLDERS:
            delete_folder(self.filesystem, join(self.folder, "_run", name))
        return manifest

    def discard(self) -> None:
        """The run's identity goes last: until then the folder is known to hold that run, in part."""
        self._control.delete(SUCCESS)
        self._control.delete(MANIFEST)
        for part in list_data_files(self.filesystem, self.folder):
            self.filesystem.delete_file(part.path)
        for folder in (self.quarantine_folder, self.samples_folder):
            delete_folder(self.filesystem, folder)
        for name in WORK_FOLDERS:
            delete_folder(self.filesystem, join(self.folder, "_run", name))
        self._control.delete(RUN)

    def _manifest(self, info: Mapping[str, Any]) -> dict[str, Any]:
        data_files = data_file_info(self.filesystem, self.folder)
        run = read_run(self._control)
        return {
            "run_id": run.run_id if run else None,
            "started": run.started if run else None,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "queries": sum(part.rows for part in data_files),
            "bytes": sum(part.bytes for part in data_files),
            "queries_by_status": dict(sum((part.queries_by_status for part in data_files), Counter())),
            "windows_by_status": dict(sum((part.windows_by_status for part in data_files), Counter())),
            "prompt_tokens": sum(part.prompt_tokens for part in data_files),
            "output_tokens": sum(part.output_tokens for part in data_files),
            "info": dict(info),
            "files": [{"name": part.name, "rows": part.rows, "bytes": part.bytes} for part in data_files],
        }
