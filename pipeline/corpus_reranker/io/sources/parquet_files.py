"""Parquet files of an input: footers, fingerprint, query ids and rows, each with errors that name the file."""

import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import IO_THREADS, is_transient, retry_transient_errors
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.sources.base import ParquetFile, ParquetFiles
from corpus_reranker.io.sources.conversion import convert, convert_batch
from corpus_reranker.io.sources.rows import MAX_ID_CHARS
from corpus_reranker.io.storage_errors import brief

BATCH_BYTES = 64 * 2**20
"""Size of a batch of rows, in the file's encoding but without compression."""

READ_BUFFER_BYTES = 2**20
"""Bytes of each column that are read at once; without a buffer, pyarrow reads the column of a whole row group."""

_NOT_IMPLEMENTED = "Not yet implemented"
"""Part of pyarrow's error: it cannot read pages in the encoding DELTA_LENGTH_BYTE_ARRAY as a dictionary. DuckDB writes
such pages with PARQUET_VERSION v2."""

READ_ATTEMPTS = 6
"""The same number as in `retry_transient_errors`."""


def file_fingerprint(files: ParquetFiles) -> dict[str, Any]:
    """Size and number of rows of the files, a digest of their footers, and the renamed columns, but not the paths."""
    digest = hashlib.sha256("\n".join(sorted(file.digest for file in files.files)).encode()).hexdigest()[:16]
    size_bytes = sum(file.size_bytes for file in files.files)
    columns = {"columns": dict(files.columns)} if files.columns else {}
    return {"rows": files.rows, "bytes": size_bytes, "digest": digest, **columns}


def read_query_ids(files: ParquetFiles) -> pa.ChunkedArray:
    """The query ids of nested files, in order. Raises InputError if one is null, empty, too long or not unique.

    Holds all ids in memory: a million ids of 16 characters take 20 MB, and 350 MB while they are read.
    """
    with ThreadPoolExecutor(IO_THREADS) as pool:
        batches = pool.map(lambda path: read_query_id_batches(files, path), files.paths)
        query_ids = pa.chunked_array([batch for batches_of_file in batches for batch in batches_of_file], pa.string())
    check_unique(query_ids, lambda row: _locate(row, files.files))
    return query_ids


def read_query_id_batches(files: ParquetFiles, path: str) -> list[pa.Array]:
    """The query_id column of one file in batches. Raises InputError if an id is null, empty or too long."""
    try:
        return _read_query_id_batches(files.filesystem, path, files.columns.get(QUERY_ID, QUERY_ID))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot read column {QUERY_ID!r}: {brief(error)}") from error


def iter_tables(files: ParquetFiles, max_rows: int) -> Iterator[pa.Table]:
    """The rows of all files in order, at most `max_rows` at a time. Raises InputError."""
    for file in files.files:
        with reading(file.path):
            yield from read_row_groups(files, file, range(len(file.row_groups)), max_rows)


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Raise InputError for pyarrow's errors about the file at `path`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {brief(error)}") from error


def read_row_groups(files: ParquetFiles, file: ParquetFile, groups: Iterable[int], max_rows: int) -> Iterator[pa.Table]:
    """The rows of some row groups of a file, with the columns and types of `files.schema`.

    Memory does not depend on the size of a row group: a batch has at most `max_rows` rows and BATCH_BYTES in the file's
    encoding, but at least one row. It takes more memory if the file uses dictionaries. A batch never spans two row
    groups, because pyarrow cannot put two dictionaries into one nested column.

    Raises:
        ArrowException, OSError: The file cannot be read. A transient error of the store is retried first.
    """
    for group in groups:
        rows, size_bytes = file.row_groups[group]
        fitting_rows = BATCH_BYTES * rows // max(size_bytes, 1)
        for batch in _batches(files.filesystem, file.path, group, max(1, min(max_rows, fitting_rows))):
            yield convert_batch(batch, files.schema, files.columns)


def _batches(filesystem: FileSystem, path: str, group: int, max_rows: int) -> Iterator[pa.RecordBatch]:
    """The batches of a row group. After a transient error, reopens the file and continues after the last batch."""
    yielded = 0
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            with (
                filesystem.open_input_file(path) as opened,
                pq.ParquetFile(opened, buffer_size=READ_BUFFER_BYTES) as parquet,
            ):
                for batch in islice(parquet.iter_batches(max_rows, row_groups=[group]), yielded, None):
                    if batch.num_rows:
                        yield batch
                    yielded += 1
            return
        except OSError as error:
            if not is_transient(error) or attempt == READ_ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 2**attempt * 0.2))


@retry_transient_errors
def _read_query_id_batches(filesystem: FileSystem, path: str, column: str) -> list[pa.Array]:
    """Read the ids dictionary-encoded, so that equal long strings take no more memory than in the file."""
    try:
        return _checked_batches(filesystem, path, column, read_dictionary=[column])
    except OSError as error:
        if _NOT_IMPLEMENTED not in str(error):
            raise
        return _checked_batches(filesystem, path, column, read_dictionary=[])


def _checked_batches(filesystem: FileSystem, path: str, column: str, read_dictionary: list[str]) -> list[pa.Array]:
    batches: list[pa.Array] = []
    row = 0
    with filesystem.open_input_file(path) as opened, pq.ParquetFile(opened, read_dictionary=read_dictionary) as file:
        for batch in file.iter_batches(columns=[column], use_threads=False):
            batches.append(check_query_ids(batch.column(0), row, path))
            row += batch.num_rows
    return batches


def check_query_ids(ids: pa.Array, first_row: int, path: str) -> pa.Array:
    """Check ids and return them as plain strings. `first_row` is the row of the first id in the file at `path`.

    Raises InputError if an id is null, empty or too long.
    """
    values = ids.dictionary if pa.types.is_dictionary(ids.type) else ids
    values = values if pa.types.is_large_string(values.type) else convert(values, pa.string())
    longest = pc.max(pc.utf8_length(values)).as_py() or 0
    if longest > MAX_ID_CHARS:
        raise InputError(f"{path}: a query_id of {longest} characters, near row {first_row}; at most {MAX_ID_CHARS}")
    strings = convert(ids, pa.string())
    position = pc.index(pc.or_kleene(pc.is_null(strings), pc.equal(strings, "")), True).as_py()
    if position >= 0:
        problem = "null" if not strings[position].is_valid else "empty"
        raise InputError(f"{path}: query_id of row {first_row + position} is {problem}; give every query its own")
    strings.validate(full=True)
    return strings


def check_unique(query_ids: pa.ChunkedArray, locate: Callable[[int], str]) -> None:
    """Raise InputError if a query id occurs more than once; `locate` describes the position of a row."""
    if pc.count_distinct(query_ids).as_py() == len(query_ids):
        return
    counts = pa.table({QUERY_ID: query_ids}).group_by(QUERY_ID).aggregate([([], "count_all")])
    duplicates = counts.filter(pc.greater(counts["count_all"], 1))
    query_id = duplicates[QUERY_ID][0].as_py()
    locations = " and ".join(locate(row) for row in pc.indices_nonzero(pc.equal(query_ids, query_id)).to_pylist()[:2])
    raise InputError(
        f"{duplicates.num_rows} query_ids occur more than once, {query_id!r} in {locations}; every query needs its own"
    )


def _locate(row: int, files: Sequence[ParquetFile]) -> str:
    for file in files:
        if row < file.rows:
            return f"row {row} of {file.path}"
        row -= file.rows
    raise AssertionError(row)
