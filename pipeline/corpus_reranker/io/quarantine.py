"""Stores windows with their full prompt and raw response, for debugging: incomplete windows and samples."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import delete_files, join, list_files
from corpus_reranker.io.schemas import QUARANTINE, quarantine_rows
from corpus_reranker.types import RerankResult

logger = logging.getLogger(__name__)


class QuarantineWriter:
    """Writes one file per query, named by a hash of its id, so that a retried query replaces its own file.

    Writes at most `max_queries` files, with texts clipped to the limits in schemas.py.
    """

    def __init__(self, filesystem: FileSystem, folder: str, max_queries: int = 1_000) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._max_queries = max_queries
        self._written = 0

    def write(self, result: RerankResult) -> bool:
        """Write the windows of `result` that were not complete. Blocks on I/O.

        A failed write is logged, not raised: a query does not fail because its quarantine file cannot be written.

        Returns:
            Whether a file was written.
        """
        rows = quarantine_rows(result)
        if not rows or self._written >= self._max_queries:
            return False
        self._written += 1
        if self._written == self._max_queries:
            logger.warning("quarantine is full at %d queries of this replica; no more are written", self._max_queries)
        return _write(self._filesystem, self._folder, result.query_id, rows)


def write_sample(filesystem: FileSystem, folder: str, result: RerankResult) -> bool:
    """Write all windows of `result`, complete ones included, in the format of the quarantine."""
    return _write(filesystem, folder, result.query_id, quarantine_rows(result, complete=True))


def read_quarantine(filesystem: FileSystem, folder: str) -> Iterator[dict[str, Any]]:
    """The windows in `folder`, a query at a time, as rows of schemas.QUARANTINE. Raises InputError."""
    for info in list_files(filesystem, folder):
        try:
            with filesystem.open_input_file(info.path) as file:
                yield from pq.ParquetFile(file).read(columns=QUARANTINE.names).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"cannot read {info.path}: {error}") from error


def delete_from_quarantine(filesystem: FileSystem, folder: str, query_ids: Iterable[str]) -> None:
    """Delete the files of these queries. The folder is listed once, however many queries there are."""
    paths = {_path(folder, query_id) for query_id in query_ids}
    existing = [info.path for info in list_files(filesystem, folder) if info.path in paths] if paths else []
    delete_files(filesystem, existing)


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
