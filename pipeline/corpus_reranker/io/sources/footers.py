"""Footers of the Parquet files of an input: their schemas and sizes, checked before any row is read."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import IO_THREADS, retry_transient_errors
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.arrow_types import are_exact_as_doubles, is_exact_as_double
from corpus_reranker.io.sources.base import ParquetFile, ParquetFiles, RowGroup
from corpus_reranker.io.sources.listing import format_hint, list_input, select_data
from corpus_reranker.io.sources.parquet_files import reading
from corpus_reranker.io.sources.schema_check import Form, input_schema
from corpus_reranker.io.storage_errors import brief

_MAGIC = b"PAR1"
"""First bytes of a Parquet file. Hive, Spark and others write data files without a suffix, or with another one."""

MAX_ROW_READ_BYTES = 256 * 2**20
"""A row group is refused before it is read if its rows claim more than this on average."""


def read_footers(settings: InputConfig, storage: StorageConfig) -> tuple[Form, ParquetFiles]:
    """Read and check the footers of all Parquet files at `settings.path`, regardless of their names.

    Raises:
        InputError: the message names the file, the column and the fix.
    """
    listing = list_input(settings.path, storage)
    with ThreadPoolExecutor(IO_THREADS) as pool:
        is_parquet = list(pool.map(lambda info: _is_parquet(listing.filesystem, info.path), listing.files))
        infos = select_data(listing, is_parquet, settings.path, "Parquet")
        found = list(pool.map(lambda info: _footer(listing.filesystem, info.path), infos))
    footers = {info.path: footer for info, footer in zip(infos, found, strict=True)}
    for path, footer in footers.items():
        _check_sizes(footer, path)
    schemas = {path: _arrow_schema(footer, path) for path, footer in footers.items()}
    form, schema = input_schema(
        schemas, settings, lambda path, column: _is_exact(listing.filesystem, path, footers[path], column)
    )
    files = tuple(
        ParquetFile(info.path, info.size, _row_groups(footers[info.path]), _digest(footers[info.path]))
        for info in infos
    )
    return form, ParquetFiles(listing.filesystem, files, schema, settings.columns)


def _is_parquet(filesystem: FileSystem, path: str) -> bool:
    """Whether a file is Parquet by its name or its first bytes."""
    return path.endswith(".parquet") or _first_bytes(filesystem, path) == _MAGIC


@retry_transient_errors
def _first_bytes(filesystem: FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        return bytes(file.read(len(_MAGIC)))


def _footer(filesystem: FileSystem, path: str) -> pq.FileMetaData:
    try:
        return _read_footer(filesystem, path)
    except (pa.ArrowException, OSError, ValueError) as error:
        hint = format_hint([path]) if not path.endswith(".parquet") else ""
        raise InputError(
            f"{path} cannot be read as Parquet (truncated, or not Parquet?): {brief(error)}{hint}"
        ) from error


@retry_transient_errors
def _read_footer(filesystem: FileSystem, path: str) -> pq.FileMetaData:
    with filesystem.open_input_file(path) as file:
        return pq.read_metadata(file)


def _arrow_schema(footer: pq.FileMetaData, path: str) -> pa.Schema:
    try:
        return footer.schema.to_arrow_schema()
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"{path}: the schema cannot be read: {brief(error)}") from error


def _is_exact(filesystem: FileSystem, path: str, footer: pq.FileMetaData, column: str) -> bool:
    """Whether doubles represent all integers of a column exactly. Reads the column only if it has no statistics."""
    leaf = [footer.schema.column(number).path for number in range(len(footer.schema))].index(column)
    statistics = [footer.row_group(group).column(leaf).statistics for group in range(footer.num_row_groups)]
    if all(each is not None and each.has_min_max for each in statistics):
        return all(is_exact_as_double(each.min) and is_exact_as_double(each.max) for each in statistics)
    with reading(path):
        return _reads_exact(filesystem, path, column)


@retry_transient_errors
def _reads_exact(filesystem: FileSystem, path: str, column: str) -> bool:
    with filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
        return all(are_exact_as_doubles(batch.column(0)) for batch in file.iter_batches(columns=[column]))


def _row_groups(footer: pq.FileMetaData) -> tuple[RowGroup, ...]:
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    return tuple(RowGroup(group.num_rows, group.total_byte_size) for group in groups)


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
                f"{MAX_ROW_READ_BYTES} per row; a query's candidates do not need that much. Shorten or drop them"
            )
