"""An Iceberg table, written with pyiceberg in any catalog that it supports."""

import warnings
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.iceberg_catalog import load_iceberg_catalog
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.plugins import import_extra
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import RUN_ID, Partition, check_columns, check_unpartitioned, only_run

_APPEND_BYTES = 128 << 20
"""Rows of about this size become one data file. pyiceberg appends a table that is in memory."""


class IcebergTable:
    """Deletes the old rows and appends the new ones in one transaction of the catalog.

    A new table is created in the same transaction. It is partitioned by the partition column.
    """

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        import_extra("pyiceberg.io.pyarrow", "iceberg")
        from pyiceberg.expressions import AlwaysTrue, EqualTo

        self._config, self._name = config, config.destination
        if "." not in self._name:
            raise ConfigError(f"publish.destination: {self._name!r} is not the name of a table; use NAMESPACE.TABLE")
        self._catalog = load_iceberg_catalog(config.catalog, config.options, storage)
        self._partition = partition
        self._old = AlwaysTrue() if partition is None else EqualTo(partition.column, partition.value)

    def published_run(self) -> str | None:
        if not self._catalog.table_exists(self._name):
            return None
        table = self._catalog.load_table(self._name)
        if table.current_snapshot() is None:
            return None
        check_columns(table.schema().column_names, self._partition, self._name)
        return only_run(table.scan(row_filter=self._old, selected_fields=(RUN_ID,)).to_arrow()[RUN_ID].to_pylist())

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        check_unpartitioned(self._columns(), rows.schema.names, self._config)
        with self._transaction(rows.schema) as transaction:
            for chunk in _chunks(rows):
                transaction.append(chunk, snapshot_properties={RUN_ID: run_id})
        return str(self._catalog.load_table(self._name).current_snapshot().snapshot_id)

    def _columns(self) -> list[str]:
        if not self._catalog.table_exists(self._name):
            return []
        return list(self._catalog.load_table(self._name).schema().column_names)

    def _transaction(self, schema: pa.Schema) -> Any:
        """A transaction on the table without the old rows, with the columns of `schema`."""
        if self._catalog.table_exists(self._name):
            transaction = self._catalog.load_table(self._name).transaction()
            with transaction.update_schema() as update:
                update.union_by_name(schema)
            if transaction.table_metadata.current_snapshot() is not None:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Delete operation did not match any records")
                    transaction.delete(self._old)
            return transaction
        self._catalog.create_namespace_if_not_exists(self._name.rpartition(".")[0])
        transaction = self._catalog.create_table_transaction(self._name, schema)
        if self._partition is not None:
            with transaction.update_spec() as update:
                update.add_identity(self._partition.column)
        return transaction


def _chunks(rows: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The rows in tables of about `_APPEND_BYTES`; at least one table."""
    kept: list[pa.RecordBatch] = []
    empty = True
    for batch in rows:
        kept.append(batch)
        if sum(each.nbytes for each in kept) >= _APPEND_BYTES:
            yield pa.Table.from_batches(kept)
            kept, empty = [], False
    if kept or empty:
        yield pa.Table.from_batches(kept, rows.schema)
