"""Windows with their full prompt and raw response, for a person to read: those that were not complete, and a sample."""

import hashlib
import logging
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, FileType

from corpus_reranker.io.filesystem import join
from corpus_reranker.io.schemas import QUARANTINE, quarantine_rows
from corpus_reranker.types import RerankResult

logger = logging.getLogger(__name__)


class QuarantineWriter:
    """One file a query, named by a hash of its id, so that a query that is asked again replaces its own file.

    Writes at most `max_queries` files; the texts in them are clipped to the bounds in schemas.py.
    """

    def __init__(self, filesystem: FileSystem, folder: str, max_queries: int = 1_000) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._max_queries = max_queries
        self._written = 0

    def write(self, result: RerankResult) -> bool:
        """Write the windows of `result` that were not complete; whether any were. Blocks on I/O.

        A failure to write is logged, not raised: no query is lost over a copy made for reading.
        """
        rows = quarantine_rows(result)
        if not rows or self._written >= self._max_queries:
            return False
        self._written += 1
        if self._written == self._max_queries:
            logger.warning("quarantine is full at %d queries of this replica; no more are copied", self._max_queries)
        return _write(self._filesystem, self._folder, result.query_id, rows)


def write_sample(filesystem: FileSystem, folder: str, result: RerankResult) -> bool:
    """Write all windows of `result`, also complete ones, as the quarantine does: an example of question and answer."""
    return _write(filesystem, folder, result.query_id, quarantine_rows(result, complete=True))


def delete_from_quarantine(filesystem: FileSystem, folder: str, query_ids: Iterable[str]) -> None:
    """Forget what is recorded of these queries."""
    for query_id in query_ids:
        path = _path(folder, query_id)
        if filesystem.get_file_info(path).type == FileType.File:
            filesystem.delete_file(path)


def _write(filesystem: FileSystem, folder: str, query_id: str, rows: list[dict[str, Any]]) -> bool:
    try:
        filesystem.create_dir(folder, recursive=True)
        table = pa.Table.from_pylist(rows, QUARANTINE)
        pq.write_table(table, _path(folder, query_id), filesystem=filesystem, compression="zstd")
    except OSError as error:
        logger.warning("could not write quarantine of a query: %s", error)
        return False
    return True


def _path(folder: str, query_id: str) -> str:
    return join(folder, f"{hashlib.sha256(query_id.encode()).hexdigest()[:32]}.parquet")
