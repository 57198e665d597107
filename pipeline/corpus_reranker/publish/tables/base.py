"""The protocol of a table."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import is_s3
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.object_store.conditional_writes import check_conditional_writes
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish.settings import PublishConfig

RUN_ID = "run_id"
"""Column with the id of the run that the rows are from. All rows of a partition are from one run."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows to replace: those whose `column` has this value."""

    column: str
    value: str

    @property
    def predicate(self) -> str:
        """The condition in SQL."""
        quoted_column, quoted_value = self.column.replace("`", "``"), self.value.replace("'", "''")
        return f"`{quoted_column}` = '{quoted_value}'"


class Table(Protocol):
    """A table whose rows, or those of one partition, are replaced in one atomic commit."""

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None: ...

    def published_run(self) -> str | None:
        """The id of the run that all rows of the partition, or of the table, are from; None if there is none."""
        ...

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        """Replace the rows of the partition, or all rows, with `rows` of a run, and return the new version.

        Nothing is visible before the commit. `rows` is read once, and not kept in memory.
        """
        ...


def only_run(run_ids: Iterable[str]) -> str | None:
    """The run id, None if there is none or more than one."""
    found = set(run_ids)
    return found.pop() if len(found) == 1 else None


def check_columns(names: Collection[str], partition: Partition | None, destination: str) -> None:
    """Raise OutputError for a table that publish has not written, or not with this partition column.

    Args:
        names: Columns of the table.
        partition: The rows that will be replaced.
        destination: Name of the table, for the message.
    """
    if RUN_ID not in names:
        raise OutputError(
            f"{destination} has no column {RUN_ID}, so it is not from corpus-reranker publish; name another table"
        )
    if partition is not None and partition.column not in names:
        raise OutputError(
            f"{destination} has no column {partition.column}: it was published without a partition; name another table"
        )


def check_unpartitioned(names: Collection[str], new: Collection[str], config: PublishConfig) -> None:
    """Raise OutputError if the table has partitions but the config names none: all rows would be replaced.

    Args:
        names: Columns of the table; none if it is new.
        new: Columns of the rows that will replace its rows.
        config: The table.
    """
    column = config.partition_column
    if config.partition is None and column in names and column not in new:
        raise OutputError(
            f"{config.destination} was published with partitions of the column {column}; set publish.partition, or name"
            " another table"
        )


def check_commits(config: PublishConfig, storage: StorageConfig) -> None:
    """Check that the store of a table on S3 refuses one of two concurrent commits (conditional writes).

    `publish.options` may lead to a store that only the library of the table can reach, so no check is possible there.

    Raises OutputError or OSError.
    """
    if is_s3(config.destination) and not config.options:
        store = open_object_store(config.destination, storage)
        check_conditional_writes(store, "one of two commits could be lost")
