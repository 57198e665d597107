"""The input format "parquet": files in nested form, one row per query, or in long form, one row per candidate."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.schemas import CANDIDATES
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.arrow_types import is_list
from corpus_reranker.io.sources.base import ParquetFiles, Source
from corpus_reranker.io.sources.footers import read_footers
from corpus_reranker.io.sources.long_form import LongParquet
from corpus_reranker.io.sources.parquet_files import file_fingerprint, iter_tables

ROWS_PER_BATCH = 64
"""Rows of the nested form are about a hundred times as large as those of the long form."""


def open_parquet(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open Parquet files. The first file's columns decide whether the form is nested or long. Raises InputError."""
    form, files = read_footers(settings, storage)
    return NestedParquet(files) if form == "nested" else LongParquet(files, settings.max_candidates)


def read_nested_files(settings: InputConfig, storage: StorageConfig) -> ParquetFiles:
    """The Parquet files at `settings.path`. Raises InputError if they are not in nested form."""
    form, files = read_footers(settings, storage)
    if form != "nested":
        raise InputError(
            f"{redact(settings.path)} has no column {CANDIDATES!r}; it must be in nested form, one row per query"
        )
    return files


@dataclass(frozen=True, slots=True)
class NestedParquet(Source):
    """An input in nested form, which a run reads without a copy."""

    files: ParquetFiles

    @property
    def form(self) -> str:
        return "nested"

    def describe(self) -> str:
        return f"{counted(len(self.files.files), 'Parquet file')}, {counted(self.files.rows, 'query')} (nested form)"

    def fingerprint_fields(self) -> dict[str, Any]:
        return file_fingerprint(self.files)

    @property
    def paths(self) -> list[str]:
        return self.files.paths

    def tables(self) -> Iterator[pa.Table]:
        return iter_tables(self.files, ROWS_PER_BATCH)

    @property
    def nested_files(self) -> ParquetFiles | None:
        return self.files

    def candidate_counts(self) -> Counter[int]:
        """As in `Source`. Reads only the smallest leaf column of the candidates, which has the length of each list."""
        counts: Counter[int] = Counter()
        column = self.files.columns.get(CANDIDATES, CANDIDATES)
        for path in self.files.paths:
            with self.files.filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
                for batch in file.iter_batches(columns=[_smallest_leaf(file, column)]):
                    lists = batch.column(0)
                    lengths = pc.list_value_length(lists) if is_list(lists.type) else pa.nulls(len(lists), pa.int64())
                    counts.update(pc.fill_null(lengths, 0).to_pylist())
        return counts


def _smallest_leaf(file: pq.ParquetFile, column: str) -> str:
    """The path of the column's smallest leaf, found by prefix, because Parquet writers name list levels differently."""
    bytes_of: Counter[str] = Counter()
    leaves = [file.schema.column(number).path for number in range(len(file.schema))]
    for number, path in enumerate(leaves):
        if path == column or path.startswith(f"{column}."):
            groups = (file.metadata.row_group(group) for group in range(file.num_row_groups))
            bytes_of[path] = sum(group.column(number).total_uncompressed_size for group in groups)
    return min(bytes_of, key=bytes_of.__getitem__)
