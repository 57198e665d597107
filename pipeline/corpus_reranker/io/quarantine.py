"""Stores windows with their whole prompt and raw response, for debugging and for the run report."""

import asyncio
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
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.types import RerankResult

logger = logging.getLogger(__name__)

_SAMPLED_QUERIES = 2
"""Number of queries per replica of which all windows are kept, for the run report."""


class QuarantineWriter:
    """Writes the windows of one replica: incomplete ones to the quarantine, those of its first queries to the samples.

    One file per query, named by a hash of its id, so that a retried query replaces its own file. Texts are clipped to
    the limits in schemas.py.
    """

    def __init__(self, layout: Layout, max_queries: int = 1_000) -> None:
        """`max_queries` bounds the number of files in the quarantine."""
        self._layout = layout
        self._max_queries = max_queries
        self._num_quarantined = 0
        self._samples_left = _SAMPLED_QUERIES

    async def write(self, result: RerankResult) -> None:
        """Write the windows of one query.

        A failed write is logged, not raised: a query does not fail because its windows cannot be written.
        """
        if any(window.status != "complete" for window in result.windows) and self._num_quarantined < self._max_queries:
            self._num_quarantined += 1
            if self._num_quarantined == self._max_queries:
                logger.warning("quarantine is full at %d queries of this replica", self._max_queries)
            await asyncio.to_thread(self._write, self._layout.quarantine_folder, result)
        if self._samples_left:
            self._samples_left -= 1
            await asyncio.to_thread(self._write, self._layout.samples_folder, result, complete=True)

    def _write(self, folder: str, result: RerankResult, *, complete: bool = False) -> None:
        filesystem = self._layout.filesystem
        try:
            filesystem.create_dir(folder, recursive=True)
            table = pa.Table.from_pylist(quarantine_rows(result, complete=complete), QUARANTINE)
            pq.write_table(table, _path(folder, result.query_id), filesystem=filesystem, compression="zstd")
        except OSError as error:
            logger.warning("cannot write the windows of query %r to %s: %s", result.query_id, folder, error)


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


def _path(folder: str, query_id: str) -> str:
    return join(folder, f"{hashlib.sha256(query_id.encode()).hexdigest()[:32]}.parquet")
