"""The protocol of an output format: lease, layout, data files and commit.

A sink is one class in one module, constructed as `Sink(OutputConfig, StorageConfig)`, and one line in `registry.py`.
`output.format: "module:Class"` names a sink outside this package. A sink that changes one aspect of the Parquet output
subclasses `parquet.ParquetSink`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.io.run_progress import RunProgress
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.types import QueryStatus


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What the data files hold.

    Attributes:
        finished: For each query of the input, in order, whether it is finished and is not reranked again.
        by_status: Number of rows by status.
        files: Sizes of the data files in bytes, by path. Together they hold each finished query once.
    """

    finished: pa.ChunkedArray
    by_status: Mapping[str, int]
    files: Mapping[str, int]

    @property
    def queries(self) -> int:
        return len(self.finished)

    @property
    def done(self) -> int:
        return pc.sum(self.finished).as_py() or 0

    @property
    def remaining(self) -> int:
        return self.queries - self.done


class Sink(Protocol):
    """One output. Construction sends no request. Every method that writes can be repeated after a crash.

    A run calls `check`, then takes the lease. While it holds the lease, it calls `begin` and `prepare`; as long as
    queries remain, `write` (`write_file` for rows of earlier outputs) and `prepare` again; then `finish`. A sink is
    picklable: `prepare` and `write_file` run in a subprocess, because the memory of `prepare` grows with the number of
    queries, and every replica unpickles its own sink.
    """

    @property
    def layout(self) -> Layout:
        """Where data files, control objects and the files of a run in progress are."""
        ...

    def record(self) -> RunRecord | None:
        """The record of the run that the output belongs to; None if there is none."""
        ...

    def check(self, fingerprint_fields: Mapping[str, Any], *, new_run: bool = False) -> bool:
        """Whether a run with these fields has finished here. Writes nothing.

        Raises:
            OutputError: the output holds another run's results, unless `new_run`, or data files of no run.
        """
        ...

    def lease(self, *, job_id: str | None = None, on_lost: Callable[[], None] | None = None) -> Lease:
        """A lease on this output that is not taken yet. It is a context manager that takes and releases the lease.

        Args:
            job_id: Shown to a run that finds the output leased.
            on_lost: Called once, from another thread, when the lease is lost or may be lost.
        """
        ...

    def begin(
        self,
        fingerprint_fields: Mapping[str, Any],
        queries: int,
        *,
        config_yaml: str,
        info: Mapping[str, Any] | None = None,
        new_run: bool = False,
    ) -> RunRecord:
        """Record a new run, or return the record of the resumed run, and delete the files of other runs.

        Args:
            fingerprint_fields: The settings that determine the ranking.
            queries: Number of queries of the input.
            config_yaml: The effective config.
            info: JSON values for the record.
            new_run: Do not resume the recorded run.

        Raises:
            OutputError: as `check` does.
            TransientRunError: another run has taken the lease.
        """
        ...

    def prepare(self, query_ids: pa.ChunkedArray, *, retry: Collection[QueryStatus] = ()) -> ResumePoint:
        """Remove truncated files and duplicates, and return which queries are finished.

        Args:
            query_ids: All query ids of the input.
            retry: Queries with these statuses count as not finished. Their rows stay until new rows replace them.

        Raises:
            OutputError: the data files hold unknown ids, or cannot be read.
        """
        ...

    def write(self, dataset: Any, schema: pa.Schema, **options: Any) -> None:
        """Write a `ray.data.Dataset` of output rows.

        Args:
            dataset: Rows of `schema`. Each block becomes one data file, whose name begins with
                `layout.data_file_prefix`. Readers of the output folder do not see the data files yet.
            schema: The output schema, with the metadata of the files.
            options: Passed on to `Dataset.write_*`: filename_provider, min_rows_per_file, concurrency and others.
        """
        ...

    def write_file(self, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Write output rows as one data file of the run, with one table in memory; no file if there are no rows.

        Args:
            tables: Rows of `schema`.
            schema: The output schema, with the metadata of the file.
        """
        ...

    def publish_progress(self, progress: RunProgress) -> None:
        """Replace the published progress of the run."""
        ...

    def finish(
        self, resume_point: ResumePoint, schema: pa.Schema, info: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Commit: publish the data files, write the manifest and return it.

        Args:
            resume_point: What `prepare` returned after the last pass. Only its data files are published.
            schema: The output schema, for an output without queries.
            info: JSON values for the manifest.

        Raises:
            TransientRunError: queries are missing (a store with a delayed LIST may show them later), another run has
                taken the lease, or a data file does not exist.
        """
        ...
