"""A Lance dataset, by pylance."""

from typing import Any

import pyarrow as pa

from corpus_reranker.errors import OutputError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.plugins import import_extra
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import RUN_ID, Partition, only_run


class LanceTable:
    """Writes fragments first, and exchanges them for those of the partition in one commit.

    Each fragment is of one partition, because this class writes each partition on its own.
    """

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        self._library = import_extra("lance", "lance")
        self._url = config.destination
        self._options = config.options or None
        self._partition = partition

    def published_run(self) -> str | None:
        fragments = self._replaced(self._dataset())
        return only_run(run_id for each in fragments for run_id in each.to_table(columns=[RUN_ID])[RUN_ID].to_pylist())

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        operations, dataset = self._library.LanceOperation, self._dataset()
        replaces_all = dataset is None or self._partition is None
        mode = "overwrite" if replaces_all else "append"  # of the uncommitted fragments: append keeps the schema
        new = self._library.fragment.write_fragments(
            rows, self._url, schema=rows.schema, mode=mode, storage_options=self._options
        )
        if dataset is None and self._dataset() is not None:  # a first commit checks nothing
            raise OutputError(f"another writer has created {self._url}; run the command again")
        if replaces_all:
            operation = operations.Overwrite(rows.schema, new)
        else:
            old = [fragment.fragment_id for fragment in self._replaced(dataset)]
            operation = operations.Update(removed_fragment_ids=old, updated_fragments=[], new_fragments=new)
        committed = self._library.LanceDataset.commit(
            self._url,
            operation,
            read_version=0 if dataset is None else dataset.version,
            storage_options=self._options,
        )
        return str(committed.version)

    def _dataset(self) -> Any:
        """The newest version; None if there is no dataset."""
        try:
            return self._library.dataset(self._url, storage_options=self._options)
        except (FileNotFoundError, ValueError) as error:
            if "not found" in str(error).lower():
                return None
            raise

    def _replaced(self, dataset: Any) -> list[Any]:
        """The fragments of the partition, or all fragments."""
        fragments = [] if dataset is None else list(dataset.get_fragments())
        if self._partition is None:
            return fragments
        column, value = self._partition.column, self._partition.value
        if dataset is not None and column not in dataset.schema.names:
            return []
        first = [(fragment, fragment.to_table(columns=[column], limit=1)[column].to_pylist()) for fragment in fragments]
        return [fragment for fragment, values in first if values == [value]]
