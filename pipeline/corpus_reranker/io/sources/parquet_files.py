"""Parquet files of an input: footers, fingerprint, query ids and rows, each with errors that name the file."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo, FileSystem, FileType

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import list_files, redact, resolve, retry_transient_errors
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sources.base import ParquetFile, ParquetFiles
from corpus_reranker.io.sources.rows import MAX_ID_CHARS
from corpus_reranker.io.sources.schema_check import Form, check_same_schema, check_schema
from corpus_reranker.io.storage_errors import brief

IO_THREADS = 16

_FIRST_REQUEST_ATTEMPTS = 3
"""A wrong endpoint is reported in seconds: the delays between the attempts of the AWS SDK double."""

_NO_DATA = (".crc", ".html", ".json", ".log", ".md", ".txt", ".yaml", ".yml")
"""Endings of files beside the data. Any other file could be a part of the input that would be left out."""

MAX_ROW_READ_BYTES = 256 * 2**20
"""A row group whose rows claim more than this on average is refused unread."""


def read_footers(url: str, storage: StorageConfig) -> tuple[Form, ParquetFiles]:
    """Read and check the footers of all Parquet files at `url`.

    Raises:
        InputError: the message names the file, the column and the fix.
    """
    filesystem, path = resolve(url, storage)
    fail_fast = storage.model_copy(update={"max_attempts": min(storage.max_attempts, _FIRST_REQUEST_ATTEMPTS)})
    infos = _list_parquet_files(filesystem, resolve(url, fail_fast)[0], path, redact(url))
    with ThreadPoolExecutor(IO_THREADS) as pool:
        footers = list(pool.map(lambda info: _footer(filesystem, info.path), infos))
    schemas = [footer.schema.to_arrow_schema() for footer in footers]
    form = check_schema(schemas[0], infos[0].path)
    for info, schema in zip(infos[1:], schemas[1:], strict=True):
        check_same_schema(schema, info.path, schemas[0], infos[0].path)
    for info, footer in zip(infos, footers, strict=True):
        _check_sizes(footer, info.path)
    files = [
        ParquetFile(info.path, footer.num_rows, info.size, _uncompressed_bytes(footer), _digest(footer))
        for info, footer in zip(infos, footers, strict=True)
    ]
    return form, ParquetFiles(filesystem, tuple(files), schemas[0])


def file_fingerprint(files: ParquetFiles) -> dict[str, Any]:
    """Numbers and a digest of the files' footers, which do not depend on where the files are."""
    digest = hashlib.sha256("\n".join(file.digest for file in files.files).encode()).hexdigest()[:16]
    size_bytes = sum(file.size_bytes for file in files.files)
    return {"files": len(files.files), "rows": files.rows, "bytes": size_bytes, "digest": digest}


def read_query_ids(files: ParquetFiles) -> pa.ChunkedArray:
    """The query ids of nested files, in order. Raises InputError if one is null, empty, too long or not unique.

    Holds all ids in memory: a million ids of 16 characters take 20 MB, and 240 MB while they are read.
    """
    with ThreadPoolExecutor(IO_THREADS) as pool:
        batches = pool.map(lambda path: read_query_id_batches(files.filesystem, path), files.paths)
        query_ids = pa.chunked_array([batch for batches_of_file in batches for batch in batches_of_file], pa.string())
    if pc.count_distinct(query_ids).as_py() != len(query_ids):
        _raise_duplicate(query_ids, files.files)
    return query_ids


def read_query_id_batches(filesystem: FileSystem, path: str) -> list[pa.Array]:
    """The query_id column of one file in batches. Raises InputError if an id is null, empty or too long."""
    try:
        return _read_query_id_batches(filesystem, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot read column {QUERY_ID!r}: {brief(error)}") from error


def iter_tables(files: ParquetFiles, rows_per_batch: int) -> Iterator[pa.Table]:
    """The rows of all files in order, at most `rows_per_batch` at a time. Raises InputError."""
    for path in files.paths:
        try:
            with files.filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
                for batch in file.iter_batches(rows_per_batch):
                    if batch.num_rows:
                        yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} cannot be read: {brief(error)}") from error


def _list_parquet_files(filesystem: FileSystem, fail_fast: FileSystem, path: str, shown: str) -> list[FileInfo]:
    """Files at `path`, sorted. The first request goes to `fail_fast`, the same filesystem with fewer attempts."""
    try:
        info = retry_transient_errors(fail_fast.get_file_info)(path)
        if info.type == FileType.File:
            return [info]
        visible = [info for info in list_files(filesystem, path, recursive=True) if _is_visible(info.path, path)]
    except OSError as error:
        raise InputError(f"cannot list the input {shown}: {brief(error)}") from error
    infos = [info for info in visible if info.path.endswith(".parquet")]
    if other := [info.path for info in visible if not info.path.endswith((".parquet", *_NO_DATA))]:
        names = ", ".join(name[len(path) :].strip("/") for name in other[:3]) + (", ..." if len(other) > 3 else "")
        raise InputError(
            f"input.path: {len(other):,} files in {shown} have other names than *.parquet ({names}); rename them to"
            " *.parquet if they are data, otherwise move them away or start their names with _"
        )
    if not infos:
        found = "is no *.parquet in" if info.type == FileType.Directory else "is no file or folder"
        raise InputError(f"input.path: there {found} {shown}")
    return infos


def _is_visible(path: str, folder: str) -> bool:
    """Ray, Spark and pyarrow ignore names that begin with _ or . as well."""
    names = path[len(folder) :].strip("/").split("/")
    return not any(name.startswith(("_", ".")) for name in names)


def _footer(filesystem: FileSystem, path: str) -> pq.FileMetaData:
    try:
        return _read_footer(filesystem, path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet (truncated, or not Parquet?): {brief(error)}") from error


@retry_transient_errors
def _read_footer(filesystem: FileSystem, path: str) -> pq.FileMetaData:
    with filesystem.open_input_file(path) as file:
        return pq.read_metadata(file)


def _uncompressed_bytes(footer: pq.FileMetaData) -> int:
    return sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))


def _digest(footer: pq.FileMetaData) -> str:
    buffer = pa.BufferOutputStream()
    footer.write_metadata_file(buffer)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _check_sizes(footer: pq.FileMetaData, path: str) -> None:
    """Refuse a decompression bomb: a row group of few rows that claims a huge uncompressed size."""
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        values = sum(group.column(index).num_values for index in range(group.num_columns))
        claimed_bytes = group.total_byte_size + 12 * values  # a value or an offset has 8 bytes, its levels 4
        if claimed_bytes > MAX_ROW_READ_BYTES * max(group.num_rows, 1):
            raise InputError(
                f"{path}: row group {number} unpacks to {claimed_bytes} bytes in {group.num_rows} rows, over "
                f"{MAX_ROW_READ_BYTES} per row; a query's candidates do not need that. Shorten or drop them"
            )


@retry_transient_errors
def _read_query_id_batches(filesystem: FileSystem, path: str) -> list[pa.Array]:
    """Read dictionary-encoded, so that equal long strings take no more memory than in the file."""
    batches: list[pa.Array] = []
    row = 0
    with filesystem.open_input_file(path) as opened, pq.ParquetFile(opened, read_dictionary=[QUERY_ID]) as file:
        for batch in file.iter_batches(columns=[QUERY_ID], use_threads=False):
            batches.append(_check_query_ids(batch.column(0), row, path))
            row += batch.num_rows
    return batches


def _check_query_ids(ids: pa.Array, first_row: int, path: str) -> pa.Array:
    """`ids` as plain strings; `first_row` is the row of the first one in the file."""
    values = ids.dictionary if pa.types.is_dictionary(ids.type) else ids
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > MAX_ID_CHARS:
        raise InputError(f"{path}: a query_id of {longest} bytes, near row {first_row}; at most {MAX_ID_CHARS}")
    strings = ids.cast(pa.string()) if not pa.types.is_string(ids.type) else ids
    position = pc.index(pc.or_kleene(pc.is_null(strings), pc.equal(strings, "")), True).as_py()
    if position >= 0:
        problem = "null" if not strings[position].is_valid else "empty"
        raise InputError(f"{path}: query_id of row {first_row + position} is {problem}; give every query its own")
    strings.validate(full=True)
    return strings


def _raise_duplicate(query_ids: pa.ChunkedArray, files: Sequence[ParquetFile]) -> None:
    counts = pa.table({QUERY_ID: query_ids}).group_by(QUERY_ID).aggregate([([], "count_all")])
    duplicates = counts.filter(pc.greater(counts["count_all"], 1))
    query_id = duplicates[QUERY_ID][0].as_py()
    rows = pc.indices_nonzero(pc.equal(query_ids, query_id)).to_pylist()[:2]
    locations = " and ".join(_locate(row, files) for row in rows)
    raise InputError(
        f"{duplicates.num_rows} query_ids occur more than once, {query_id!r} in {locations}; every query needs its own"
    )


def _locate(row: int, files: Sequence[ParquetFile]) -> str:
    for file in files:
        if row < file.rows:
            return f"row {row} of {file.path}"
        row -= file.rows
    raise AssertionError(row)
