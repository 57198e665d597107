"""A Delta Lake table, written with deltalake (delta-rs)."""

from typing import Any

import pyarrow as pa

from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.table_storage import object_store_location
from corpus_reranker.plugins import import_extra
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import (
    RUN_ID,
    Partition,
    check_columns,
    check_commits,
    check_unpartitioned,
    only_run,
)


class DeltaTable:
    """Overwrites by a predicate on the partition column, in one commit of the transaction log.

    A new table is created empty first: two writers that both create it would not see each other's rows.
    """

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        self._library = import_extra("deltalake", "delta")
        self._config, self._storage = config, storage
        self._url, self._options = object_store_location(config.destination, storage, config.options)
        self._partition = partition

    def published_run(self) -> str | None:
        table = self._table()
        if table is None:
            return None
        check_columns(_columns(table), self._partition, self._config.destination)
        where = "" if self._partition is None else f" WHERE {self._partition.predicate}"
        query = self._library.QueryBuilder().register("published", table)
        found = pa.table(query.execute(f"SELECT DISTINCT {RUN_ID} FROM published{where}"))  # noqa: S608
        return only_run(found[RUN_ID].to_pylist())

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        table = self._table()
        check_unpartitioned(_columns(table) if table is not None else [], rows.schema.names, self._config)
        check_commits(self._config, self._storage)
        one = self._partition
        how: dict[str, Any] = {"schema_mode": "overwrite"}
        if one is not None:
            how = {"schema_mode": "merge", "predicate": one.predicate, "partition_by": [one.column]}
        self._library.DeltaTable.create(
            self._url, rows.schema, "ignore", how.get("partition_by"), storage_options=self._options
        )
        app = f"corpus-reranker/{'' if one is None else one.value}"  # two commits of one application are a conflict
        version = (self._existing().transaction_version(app) or 0) + 1
        how["commit_properties"] = self._library.CommitProperties(
            custom_metadata={RUN_ID: run_id}, app_transactions=[self._library.Transaction(app, version)]
        )
        self._library.write_deltalake(self._url, rows, mode="overwrite", storage_options=self._options, **how)
        return str(self._existing().version())

    def _table(self) -> Any:
        """The newest version; None if there is no table. `is_deltatable` would hold the GIL while it waits for S3."""
        try:
            return self._existing()
        except self._library.exceptions.TableNotFoundError:
            return None

    def _existing(self) -> Any:
        return self._library.DeltaTable(self._url, storage_options=self._options)


def _columns(table: Any) -> list[str]:
    return list(pa.schema(table.schema().to_arrow()).names)
