"""The long form, one row per candidate: rows are grouped by query while they are read.

Memory is bounded. If the rows of a query are not contiguous, all rows are first partitioned by query into files in
TMPDIR. Measured with 1.8 GB of rows: the process grows to 390 MB if they are contiguous, and to 1.1 GB if they are not.
"""

import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.schemas import CANDIDATE, CANDIDATES, LONG_INPUT, QUERY_ID
from corpus_reranker.io.sources.base import ParquetFiles, Source
from corpus_reranker.io.sources.parquet_files import file_fingerprint, iter_tables, read_query_id_batches

ROWS_PER_BATCH = 4096

PARTITION_BYTES = 64 * 2**20
"""Uncompressed size of the rows that are sorted at once. They take more space in memory."""

_SHOWN_CHARS = 80

MAX_PARTITIONS = 512
"""Maximum number of partitions. Each is an open file while rows are written."""


class LongForm(Source, Protocol):
    """An input in long form.

    The candidates of a query are ordered by `rank` if there is such a column, otherwise by descending score, and then
    by doc_id. The query text and the columns that pass through are those of the first candidate. A query with more than
    `max_candidates` candidates keeps `max_candidates` + 1 of them, so that it becomes a failed row.
    """

    @property
    def max_candidates(self) -> int: ...

    @property
    def schema(self) -> pa.Schema:
        """Schema of `rows`: columns of LONG_INPUT, and columns that pass through."""
        ...

    @property
    def uncompressed_bytes(self) -> int:
        """Approximate size of all rows."""
        ...

    def rows(self) -> Iterator[pa.Table]:
        """All rows in order, a few thousand at a time. Raises InputError."""
        ...

    def query_ids(self) -> Iterator[pa.Array]:
        """The query_id column in order. Raises InputError for a row without one."""
        ...

    @property
    def form(self) -> str:
        return "long"

    def tables(self) -> Iterator[pa.Table]:
        rows = self.rows() if self._is_contiguous() else self._rows_sorted_on_disk()
        last_query: pa.Table | None = None
        for table in rows:
            table = pa.concat_tables([last_query, table]) if last_query is not None else table
            starts = _group_starts(table[QUERY_ID])
            if len(starts) > 1:
                yield _group_by_query(table.slice(0, int(starts[-1])), starts[:-1], self.max_candidates)
            last_query = table.slice(int(starts[-1])).slice(0, self.max_candidates + 1)
        if last_query is not None:
            yield _group_by_query(last_query, np.zeros(1, dtype=np.int64), self.max_candidates)

    def candidate_counts(self) -> Counter[int]:
        candidates: Counter[str] = Counter()
        for ids in self.query_ids():
            candidates.update(ids.to_pylist())
        return Counter(candidates.values())

    def _is_contiguous(self) -> bool:
        """Whether the rows of every query are contiguous."""
        groups: list[pa.Array] = []
        for ids in self.query_ids():
            first_ids = ids.take(pa.array(_group_starts(ids)))
            if groups and len(first_ids) and groups[-1][-1] == first_ids[0]:
                first_ids = first_ids.slice(1)
            groups += [first_ids] if len(first_ids) else []
        ids_of_groups = pa.chunked_array(groups, pa.string())
        return bool(pc.count_distinct(ids_of_groups).as_py() == len(ids_of_groups))

    def _rows_sorted_on_disk(self) -> Iterator[pa.Table]:
        """Partition the rows by a hash of their query id into files that fit in memory, and yield each file sorted."""
        schema = self.schema
        num_partitions = min(-(-self.uncompressed_bytes // PARTITION_BYTES) or 1, MAX_PARTITIONS)
        with tempfile.TemporaryDirectory(prefix="reranker-") as folder:
            paths = [Path(folder) / f"{number}.arrow" for number in range(num_partitions)]
            try:
                writers = [pa.ipc.new_file(str(path), schema) for path in paths]
                for table in self.rows():
                    partition_of_row = _partition_of_row(table[QUERY_ID], num_partitions)
                    for number in np.unique(partition_of_row):
                        rows = table.filter(pa.array(partition_of_row == number))
                        writers[number].write_table(rows)
                for writer in writers:  # a full disk may show only here
                    writer.close()
            except OSError as error:
                fix = "sort the input by query_id, or set TMPDIR to a larger disk"
                raise InputError(f"cannot sort the input's rows by query in {folder}: {error}; {fix}") from error
            for path in paths:
                with pa.OSFile(str(path)) as file:
                    table = pa.ipc.open_file(file).read_all()
                    if table.num_rows:
                        yield table.sort_by(QUERY_ID)


@dataclass(frozen=True, slots=True)
class LongParquet(LongForm):
    """Parquet files in long form."""

    long_files: ParquetFiles
    max_candidates: int

    @property
    def schema(self) -> pa.Schema:
        return self.long_files.schema

    @property
    def uncompressed_bytes(self) -> int:
        return sum(file.uncompressed_bytes for file in self.long_files.files)

    def describe(self) -> str:
        files = self.long_files
        return f"{counted(len(files.files), 'Parquet file')}, {counted(files.rows, 'candidate row')} (long form)"

    def fingerprint_fields(self) -> dict[str, Any]:
        return file_fingerprint(self.long_files)

    @property
    def paths(self) -> list[str]:
        return self.long_files.paths

    def rows(self) -> Iterator[pa.Table]:
        return iter_tables(self.long_files, ROWS_PER_BATCH)

    def query_ids(self) -> Iterator[pa.Array]:
        for path in self.long_files.paths:
            yield from read_query_id_batches(self.long_files, path)


def _partition_of_row(query_ids: pa.ChunkedArray, num_partitions: int) -> np.ndarray:
    ids = query_ids.combine_chunks().dictionary_encode()
    partition_of_id = np.array([zlib.crc32(each.encode()) % num_partitions for each in ids.dictionary.to_pylist()])
    row_partitions: np.ndarray = partition_of_id[ids.indices.to_numpy()]
    return row_partitions


def _group_starts(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Positions at which the id differs from the one before; the first is 0."""
    if len(ids) < 2:
        return np.zeros(len(ids), dtype=np.int64)
    changes = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    return np.concatenate([[0], pc.indices_nonzero(changes).to_numpy().astype(np.int64) + 1])


def _group_by_query(table: pa.Table, starts: np.ndarray, max_candidates: int) -> pa.Table:
    """One row per query; `starts` are the positions in `table` of each query's first row."""
    lengths = np.diff(np.append(starts, table.num_rows))
    order = [("_query", "ascending")]
    order += [("rank", "ascending")] if "rank" in table.column_names else [("score", "descending")]
    query_of_row = pa.array(np.repeat(np.arange(len(starts)), lengths))
    indices = pc.sort_indices(table.append_column("_query", query_of_row), sort_keys=[*order, ("doc_id", "ascending")])
    # Candidates beyond the limit are dropped only here: before the sort, it is not known which come first.
    position_in_query = np.arange(table.num_rows) - np.repeat(starts, lengths)
    table = table.take(indices.filter(pa.array(position_in_query <= max_candidates)))
    lengths = np.minimum(lengths, max_candidates + 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    _check_queries(table, offsets)
    fields = [field for field in CANDIDATE if field.name in table.column_names]
    structs = pa.StructArray.from_arrays([table[field.name].combine_chunks() for field in fields], fields=fields)
    candidates = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)
    first = table.take(pa.array(offsets[:-1]))
    passed_through = [name for name in first.column_names if name not in LONG_INPUT.names]
    ids = {name: first[name] for name in (QUERY_ID, "query")}
    return pa.table({**ids, CANDIDATES: candidates, **{name: first[name] for name in passed_through}})


def _check_queries(table: pa.Table, offsets: np.ndarray) -> None:
    """Raise InputError if the rows of a query have different texts. Query q has rows `[offsets[q], offsets[q + 1])`."""
    texts = pc.fill_null(table["query"], "")
    changes = np.setdiff1d(_group_starts(texts), offsets)
    if len(changes):
        query_id = table[QUERY_ID][int(changes[0])].as_py()
        one, other = (texts[int(row)].as_py()[:_SHOWN_CHARS] for row in (changes[0] - 1, changes[0]))
        raise InputError(
            f"query_id {query_id!r} has two texts, {one!r} and {other!r}; give all rows of a query the same query"
        )
