"""A Lance dataset, written with pylance."""

from typing import Any

import pyarrow as pa

from corpus_reranker.errors import OutputError
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


class LanceTable:
    """Writes new fragments first, and replaces those of the partition with them in one commit.

    Each fragment belongs to one partition, because this class writes each partition on its own. A new dataset is
    created empty first, because a first commit detects no conflict.
    """

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        self._library = import_extra("lance", "lance")
        self._config, self._storage = config, storage
        self._url, self._options = object_store_location(config.destination, storage, config.options)
        self._partition = partition

    def published_run(self) -> str | None:
        dataset = self._dataset()
        if dataset is not None:
            check_columns(dataset.schema.names, self._partition, self._config.destination)
        fragments = self._replaced(dataset)
        return only_run(run_id for each in fragments for run_id in each.to_table(columns=[RUN_ID])[RUN_ID].to_pylist())

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        operations, dataset = self._library.LanceOperation, self._dataset()
        check_unpartitioned([] if dataset is None else dataset.schema.names, rows.schema.names, self._config)
        check_commits(self._config, self._storage)
        if dataset is None:
            dataset = self._create(rows.schema)
        old = {fragment.fragment_id for fragment in self._replaced(dataset)}
        kept = [each.metadata for each in dataset.get_fragments() if each.fragment_id not in old]
        added = sorted(set(rows.schema.names) - set(dataset.schema.names))
        if kept and added:
            raise OutputError(
                f"{self._config.destination} has no column {', '.join(added)}, and a partition cannot add columns"
                " to a Lance dataset; set publish.columns"
            )
        mode = "append" if kept else "overwrite"  # for uncommitted fragments: append keeps the schema
        new = self._library.fragment.write_fragments(
            rows, self._url, schema=rows.schema, mode=mode, storage_options=self._options
        )
        operation = operations.Overwrite(rows.schema, new)
        if kept:  # only commits that touch a common fragment conflict, so a new partition touches an old one's
            touched = [] if old else kept[:1]
            operation = operations.Update(removed_fragment_ids=list(old), updated_fragments=touched, new_fragments=new)
        committed = self._library.LanceDataset.commit(
            self._url, operation, read_version=dataset.version, storage_options=self._options, max_retries=0
        )
        return str(committed.version)

    def _create(self, schema: pa.Schema) -> Any:
        empty = schema.empty_table()
        return self._library.write_dataset(empty, self._url, mode="create", storage_options=self._options)

    def _dataset(self) -> Any:
        """The newest version; None if there is no dataset."""
        try:
            return self._library.dataset(self._url, storage_options=self._options)
        except (FileNotFoundError, ValueError) as error:
            if "was not found" in str(error) or isinstance(error, FileNotFoundError):
                return None
            raise

    def _replaced(self, dataset: Any) -> list[Any]:
        """The fragments of the partition, or all fragments."""
        fragments = [] if dataset is None else list(dataset.get_fragments())
        if self._partition is None:
            return fragments
        column, value = self._partition.column, self._partition.value
        first = [(fragment, fragment.to_table(columns=[column], limit=1)[column].to_pylist()) for fragment in fragments]
        return [fragment for fragment, values in first if values == [value]]
