"""A Delta Lake table, by deltalake (delta-rs)."""

from typing import Any

import pyarrow as pa

from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.plugins import import_extra
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import RUN_ID, Partition, only_run


class DeltaTable:
    """Overwrites by a predicate on the partition column, in one commit of the transaction log.

    A new table is created empty first: two writers that both create it would not see each other's rows.
    """

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        self._library = import_extra("deltalake", "delta")
        self._url = config.destination
        self._options = config.options or None
        self._partition = partition

    def published_run(self) -> str | None:
        if not self._library.DeltaTable.is_deltatable(self._url, storage_options=self._options):
            return None
        table = self._table()
        filters = None if self._partition is None else [(self._partition.column, "=", self._partition.value)]
        if self._partition is not None and self._partition.column not in table.schema().to_arrow().names:
            return None
        rows = table.to_pyarrow_dataset(file_pruning_predicate=filters)
        return only_run(run_id for batch in rows.to_batches(columns=[RUN_ID]) for run_id in batch[RUN_ID].to_pylist())

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        one = self._partition
        how: dict[str, Any] = {"schema_mode": "overwrite"}
        if one is not None:
            how = {"schema_mode": "merge", "predicate": one.predicate, "partition_by": [one.column]}
        self._library.DeltaTable.create(
            self._url, rows.schema, "ignore", how.get("partition_by"), storage_options=self._options
        )
        app = f"corpus-reranker/{'' if one is None else one.value}"  # two commits of one application are a conflict
        version = (self._table().transaction_version(app) or 0) + 1
        how["commit_properties"] = self._library.CommitProperties(
            custom_metadata={RUN_ID: run_id}, app_transactions=[self._library.Transaction(app, version)]
        )
        self._library.write_deltalake(self._url, rows, mode="overwrite", storage_options=self._options, **how)
        return str(self._table().version())

    def _table(self) -> Any:
        return self._library.DeltaTable(self._url, storage_options=self._options)
