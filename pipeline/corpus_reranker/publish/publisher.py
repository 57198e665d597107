"""Publishes a finished output to a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError, OutputError, RerankerError
from corpus_reranker.evaluation.outputs import open_output
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import brief_of_library
from corpus_reranker.publish.registry import table_class
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import RUN_ID, Partition

_RUN_ID_METADATA = "reranker.run_id"


@dataclass(frozen=True, slots=True)
class Published:
    """What a call of `publish` did.

    Attributes:
        run_id: The run whose rows the table holds.
        version: Version of the table after the commit; None if the table already held the rows of this run.
        rows: Rows written.
    """

    run_id: str
    version: str | None
    rows: int


def publish(source: tuple[pafs.FileSystem, str], config: PublishConfig, storage: StorageConfig) -> Published:
    """Replace the rows of a table, or of one partition, with those of an output, in one atomic commit.

    Does nothing if the table already holds the rows of this run. After a crash before the commit, the table is as it
    was; the same call publishes the output.

    Args:
        source: Filesystem and path of the output.
        config: The table.
        storage: How to reach S3, unless `config.options` overrides it.

    Raises:
        ConfigError: A package is missing.
        InputError: The output cannot be read, its run has not finished, or no model ranked it.
        OutputError: The table cannot be written, or another writer committed first.
    """
    filesystem, path = source
    output = open_output(filesystem, path, allow_simulated=config.allow_simulated)
    run_id = output.metadata.get(_RUN_ID_METADATA)
    if run_id is None:
        raise InputError(f"{path} names no run in its metadata; publish the output of corpus-reranker rerank")
    partition = None if config.partition is None else Partition(config.partition_column, config.partition)
    rows = _Rows(filesystem, output.data_files, config.columns, {RUN_ID: run_id, **_column_of(partition)})
    try:
        table = table_class(config.to)(config, storage, partition)
        if table.published_run() == run_id:
            return Published(run_id, None, 0)
        version = table.replace(rows.reader(), run_id)
    except RerankerError:
        raise
    except Exception as error:  # each library raises its own types, and wraps an error of the rows in them
        if rows.error is not None:
            raise rows.error from error
        raise OutputError(f"cannot publish to {config.destination}: {brief_of_library(error)}") from error
    return Published(run_id, version, rows.written)


def _column_of(partition: Partition | None) -> dict[str, str]:
    return {} if partition is None else {partition.column: partition.value}


class _Rows:
    """The rows of an output with further columns of one value each.

    Attributes:
        written: Rows read so far.
        error: The error that ended the reading; a library may replace it with its own.
    """

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        data_files: Sequence[str],
        columns: Sequence[str] | None,
        constants: dict[str, str],
    ) -> None:
        self.written = 0
        self.error: Exception | None = None
        self._filesystem = filesystem
        self._data_files = data_files
        self._constants = constants
        with filesystem.open_input_file(data_files[0]) as stream:
            schema = pq.read_schema(stream)
        names = list(columns) if columns is not None else schema.names
        if missing := set(names) - set(schema.names):
            raise InputError(f"the output has no column {', '.join(sorted(missing))}; it has {', '.join(schema.names)}")
        if taken := set(names) & constants.keys():
            raise InputError(
                f"the output has a column {', '.join(sorted(taken))}, which publish adds; set publish.partition_column,"
                " or leave it out of publish.columns"
            )
        self._names = names
        own = [schema.field(name).with_nullable(True) for name in names]  # a later run may leave the column out
        self._schema = pa.schema([*own, *(pa.field(name, pa.string()) for name in constants)])

    def reader(self) -> pa.RecordBatchReader:
        """Reads the rows once, in batches."""
        return pa.RecordBatchReader.from_batches(self._schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for data_file in self._data_files:
                with self._filesystem.open_input_file(data_file) as stream, pq.ParquetFile(stream) as file:
                    for batch in file.iter_batches(batch_size=1024, columns=self._names):
                        self.written += len(batch)
                        yield self._extended(batch)
        except (pa.ArrowException, OSError) as error:
            self.error = InputError(f"cannot read {data_file}: {error}")
            raise self.error from error

    def _extended(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [batch.column(name) for name in self._names]
        constants = [pa.array([value] * len(batch), pa.string()) for value in self._constants.values()]
        return pa.record_batch([*columns, *constants], schema=self._schema)
