"""Query and passage texts by query id, from the candidates that an output was reranked from."""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import CANDIDATES
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import ParquetFile, ParquetFiles
from corpus_reranker.io.sources.parquet import ROWS_PER_BATCH, read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids, read_row_groups, reading

_OPEN_ROW_GROUPS = 4
"""An output file holds neighboring input rows, so a few row groups serve nearly every lookup."""

_KEPT_BYTES = 64 * 2**20
"""Bytes of rows to keep from each open row group. Replicas finish queries in nearly the order of the input."""


@dataclass(frozen=True, slots=True)
class QueryTexts:
    """A query's text, and its passages by doc_id: mappings with `text` and, where there is one, `title`."""

    query: str
    passages: Mapping[str, Mapping[str, Any]]


class CandidateTexts:
    """Finds queries in candidates Parquet of the nested form, with the names and types of `input.columns`.

    Memory: an index of the query ids (about 150 bytes each), and some batches of rows, regardless of row group sizes.

    Args:
        settings: The path of the candidates, and the names and types of their columns.
        storage: How to reach the candidates.

    Raises:
        InputError: The candidates cannot be read.
    """

    def __init__(self, settings: InputConfig, storage: StorageConfig) -> None:
        self._url = redact(settings.path)
        self._files = read_nested_files(settings, storage)
        self._rows = {query_id: row for row, query_id in enumerate(read_query_ids(self._files).to_pylist())}
        self._groups = [(file, number) for file in self._files.files for number in range(len(file.row_groups))]
        self._starts: list[int] = []
        row = 0
        for file, number in self._groups:
            self._starts.append(row)
            row += file.row_groups[number].rows
        self._open: OrderedDict[int, _RowGroup] = OrderedDict()

    def find(self, query_id: str) -> QueryTexts:
        """The texts of one query. Raises InputError if the candidates do not hold it, or cannot be read."""
        if query_id not in self._rows:
            raise InputError(
                f"{self._url} does not hold query {query_id!r}; name the candidates that the output was reranked from"
            )
        row = self._row(self._rows[query_id])
        candidates = reversed(row["candidates"] or ())  # the first one of a repeated doc_id wins, as in a run
        return QueryTexts(row["query"], {candidate["doc_id"]: candidate for candidate in candidates})

    def _row(self, number: int) -> dict[str, Any]:
        group = bisect_right(self._starts, number) - 1
        if group not in self._open:
            self._open[group] = _RowGroup(self._files, *self._groups[group])
            while len(self._open) > _OPEN_ROW_GROUPS:
                self._open.popitem(last=False)
        self._open.move_to_end(group)
        return self._open[group].row(number - self._starts[group])


class _RowGroup:
    """Reads the rows of one row group in order, and from its start again for a row that is no longer kept."""

    def __init__(self, files: ParquetFiles, file: ParquetFile, number: int) -> None:
        self._files = files
        self._file = file
        self._number = number
        self._rewind()

    def row(self, number: int) -> dict[str, Any]:
        if self._kept and number < self._kept[0][0]:
            self._rewind()
        while number >= self._end:
            self._read()
        start, table = next((start, table) for start, table in reversed(self._kept) if start <= number)
        (row,) = table.select(["query", CANDIDATES]).slice(number - start, 1).to_pylist()
        return dict(row)

    def _rewind(self) -> None:
        self._batches = read_row_groups(self._files, self._file, [self._number], ROWS_PER_BATCH)
        self._kept: deque[tuple[int, pa.Table]] = deque()
        self._end = 0

    def _read(self) -> None:
        with reading(self._file.path):
            table = next(self._batches, None)
        if table is None:
            raise InputError(f"{self._file.path} has changed since its footer was read; run the command again")
        self._kept.append((self._end, table))
        self._end += table.num_rows
        while len(self._kept) > 1 and sum(kept.nbytes for _, kept in self._kept) > _KEPT_BYTES:
            self._kept.popleft()
