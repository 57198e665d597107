"""The candidates as a Ray Data source: checked batches of rows, converted to one schema."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sources.base import ParquetFile, ParquetFiles
from corpus_reranker.io.sources.parquet import ROWS_PER_BATCH
from corpus_reranker.io.sources.parquet_files import read_row_groups
from corpus_reranker.io.sources.rows import check_batch

_PIECE_BYTES = 128 * 2**20
"""Uncompressed size of the row groups of one file that a task reads, so that several tasks can share a large file."""

Piece = tuple[ParquetFile, range]
"""A file, and the numbers of some of its row groups."""


class CandidatesDatasource(Datasource):  # type: ignore[misc]
    """Reads and checks nested candidates in batches, so that a task's memory does not depend on the row groups.

    A row beyond the limits loses its texts as soon as its batch is read. `ray.data.read_parquet` decodes whole row
    groups, and needs the same schema in all files.
    """

    def __init__(self, files: ParquetFiles, limits: RowLimits) -> None:
        super().__init__()
        self._files = files
        self._limits = limits

    def estimate_inmemory_data_size(self) -> int:
        return sum(file.uncompressed_bytes for file in self._files.files)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """At most `parallelism` tasks, each with consecutive row groups."""
        pieces = list(_pieces(self._files))
        bounds = np.linspace(0, len(pieces), min(parallelism, len(pieces)) + 1).astype(int)
        return [self._read_task(pieces[start:end], per_task_row_limit) for start, end in pairwise(bounds)]

    def _read_task(self, pieces: list[Piece], row_limit: int | None) -> ReadTask:
        groups = [file.row_groups[number] for file, numbers in pieces for number in numbers]
        metadata = BlockMetadata(
            num_rows=sum(group.rows for group in groups),
            size_bytes=sum(group.uncompressed_bytes for group in groups),
            input_files=[file.path for file, _ in pieces],
            exec_stats=None,
        )
        shared = dataclasses.replace(self._files, files=())  # each task carries only its own files
        schema = check_batch(self._files.schema.empty_table(), self._limits).schema
        return ReadTask(partial(_read, shared, pieces, self._limits), metadata, schema, row_limit)


def _pieces(files: ParquetFiles) -> Iterator[Piece]:
    for file in files.files:
        start, size_bytes = 0, 0
        for number, group in enumerate(file.row_groups):
            if size_bytes and size_bytes + group.uncompressed_bytes > _PIECE_BYTES:
                yield file, range(start, number)
                start, size_bytes = number, 0
            size_bytes += group.uncompressed_bytes
        if file.row_groups:
            yield file, range(start, len(file.row_groups))


def _read(files: ParquetFiles, pieces: list[Piece], limits: RowLimits) -> Iterator[pa.Table]:
    for file, groups in pieces:
        for table in read_row_groups(files, file, groups, ROWS_PER_BATCH):
            yield check_batch(table, limits)
