"""The protocol of a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

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
        """Replace the rows of the partition, or all rows, by `rows` of a run, and return the new version.

        Nothing is visible before the commit. `rows` is read once, and not kept in memory.
        """
        ...


def only_run(run_ids: Iterable[str]) -> str | None:
    """The run id, None if there is none or more than one."""
    found = set(run_ids)
    return found.pop() if len(found) == 1 else None
