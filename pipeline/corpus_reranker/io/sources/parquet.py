"""What an input is, from its Parquet footers and its query ids alone, before anything is started for it."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, FileType

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import brief, list_files, redact, resolve, retry_transient_errors
from corpus_reranker.io.schemas import CANDIDATES, LONG_INPUT, NESTED_INPUT, PROBLEM, QUERY_ID, RESULT
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.rows import MAX_ID_CHARS

Form: TypeAlias = Literal["nested", "long"]

IO_THREADS = 16

_ATTEMPTS_TO_REACH = 3
"""Of the first request: a wrong endpoint, or no way to it, is told in seconds. The SDK's waits double with each."""

MAX_ROW_READ_BYTES = 256 * 2**20
"""Rows of a row group that claim more than this on average are refused unread."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One Parquet file. `digest` is of its footer, which holds the sizes and statistics of all its pages."""

    path: str
    rows: int
    size_bytes: int
    unpacked_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Input:
    """A checked input: its files sorted by path, all of one form and schema."""

    filesystem: FileSystem
    form: Form
    files: tuple[InputFile, ...]
    schema: pa.Schema

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def fingerprint_fields(self) -> dict[str, Any]:
        """What tells this input from another, wherever it lies: for the identity of a run."""
        digest = hashlib.sha256("\n".join(file.digest for file in self.files).encode()).hexdigest()[:16]
        size_bytes = sum(file.size_bytes for file in self.files)
        return {"files": len(self.files), "rows": self.rows, "bytes": size_bytes, "digest": digest}


def check_input(settings: InputConfig, storage: StorageConfig) -> Input:
    """Read the footers of all files of the input. Raises InputError that names the file, the column and the fix."""
    filesystem, path = resolve(settings.path, storage)
    fail_fast = storage.model_copy(update={"max_attempts": min(storage.max_attempts, _ATTEMPTS_TO_REACH)})
    infos = _parquet_files(filesystem, resolve(settings.path, fail_fast)[0], path, redact(settings.path))
    with ThreadPoolExecutor(IO_THREADS) as pool:
        footers = list(pool.map(lambda info: _footer(filesystem, info.path), infos))
    schemas = [footer.schema.to_arrow_schema() for footer in footers]
    form = _check_schema(schemas[0], infos[0].path)
    for info, schema in zip(infos[1:], schemas[1:], strict=True):
        _check_same_schema(schema, info.path, schemas[0], infos[0].path)
    for info, footer in zip(infos, footers, strict=True):
        _check_sizes(footer, info.path)
    files = [
        InputFile(info.path, footer.num_rows, info.size, _unpacked_bytes(footer), _digest(footer))
        for info, footer in zip(infos, footers, strict=True)
    ]
    return Input(filesystem, form, tuple(files), schemas[0])


def read_query_ids(source: Input) -> pa.ChunkedArray:
    """The query ids of a nested input, in order of its files. Raises InputError if one is null, empty or not unique.

    Holds the ids of the whole input in memory; of a million ids of 16 characters 20 MB stay, 240 MB are used.
    """
    with ThreadPoolExecutor(IO_THREADS) as pool:
        chunks = pool.map(lambda path: read_ids(source.filesystem, path), source.paths)
        query_ids = pa.chunked_array([chunk for chunks_of_file in chunks for chunk in chunks_of_file], pa.string())
    if pc.count_distinct(query_ids).as_py() != len(query_ids):
        _raise_duplicate(query_ids, source.files)
    return query_ids


def _parquet_files(filesystem: FileSystem, fail_fast: FileSystem, path: str, shown: str) -> list[Any]:
    """`hasty` is asked first."""
    try:
        info = retry_transient_errors(fail_fast.get_file_info)(path)
        if info.type == FileType.File:
            return [info]
        infos = [info for info in list_files(filesystem, path, recursive=True) if _is_data(info.path, path)]
    except OSError as error:
        raise InputError(f"cannot list the input {shown}: {brief(error)}") from error
    if not infos:
        there = "is no *.parquet in" if info.type == FileType.Directory else "is no file or folder"
        raise InputError(f"input.path: there {there} {shown}")
    return infos


def _is_data(path: str, folder: str) -> bool:
    """As Ray, Spark and pyarrow see it: names that begin with _ or . are not data."""
    names = path[len(folder) :].strip("/").split("/")
    return path.endswith(".parquet") and not any(name.startswith(("_", ".")) for name in names)


def _footer(filesystem: FileSystem, path: str) -> pq.FileMetaData:
    try:
        return _read_footer(filesystem, path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Parquet (truncated, or not Parquet?): {brief(error)}") from error


@retry_transient_errors
def _read_footer(filesystem: FileSystem, path: str) -> pq.FileMetaData:
    with filesystem.open_input_file(path) as file:
        return pq.read_metadata(file)


def _unpacked_bytes(footer: pq.FileMetaData) -> int:
    return sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))


def _digest(footer: pq.FileMetaData) -> str:
    sink = pa.BufferOutputStream()
    footer.write_metadata_file(sink)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _check_schema(schema: pa.Schema, path: str) -> Form:
    form: Form = "nested" if CANDIDATES in schema.names or "doc_id" not in schema.names else "long"
    expected = NESTED_INPUT if form == "nested" else LONG_INPUT
    for name in (name for name in schema.names if schema.names.count(name) > 1):
        raise InputError(f"{path} has two columns named {name!r}; rename one")
    for field in expected:
        if field.name in schema.names:
            _check_type(schema.field(field.name).type, field.type, field.name, path)
        elif field.name not in ("title", "rank"):
            has = ", ".join(schema.names)
            raise InputError(f"{path} has no column {field.name!r}; it has: {has}. The {form} form needs {_form(form)}")
    for field in schema:
        if field.name not in expected.names:
            _check_passed_through(field, path)
    return form


def _check_type(found: pa.DataType, expected: pa.DataType, name: str, path: str) -> None:
    if pa.types.is_list(expected):
        if not (pa.types.is_list(found) or pa.types.is_large_list(found)) or not pa.types.is_struct(found.value_type):
            raise InputError(f"{path}: column {name!r} is {found}; it must be {_form('nested')}")
        for field in expected.value_type:
            position = found.value_type.get_field_index(field.name)
            if position >= 0:
                _check_type(found.value_type.field(position).type, field.type, f"{name}.{field.name}", path)
            elif field.name != "title":
                raise InputError(f"{path}: the structs of {name!r} have no field {field.name!r}; they are {found}")
    elif pa.types.is_string(expected):
        if not (pa.types.is_string(found) or pa.types.is_large_string(found)):
            raise InputError(f"{path}: {name!r} is {found}; cast it to string")
    elif not (pa.types.is_integer(found) or pa.types.is_floating(found)):
        raise InputError(f"{path}: {name!r} is {found}; cast it to {expected}")


def _check_passed_through(field: pa.Field, path: str) -> None:
    if field.name in (*RESULT.names, PROBLEM):
        raise InputError(f"{path}: column {field.name!r} has the name of an output column; rename it")
    if bad := _unsafe_type(field.type):
        raise InputError(f"{path}: column {field.name!r} is {bad}, which rows do not carry unchanged; cast or drop it")


def _unsafe_type(type_: pa.DataType) -> pa.DataType | None:
    """A type in `type_` that does not survive a trip through Python rows to Arrow's own inference and back."""
    if (
        pa.types.is_map(type_)
        or pa.types.is_union(type_)
        or pa.types.is_uint64(type_)
        or pa.types.is_run_end_encoded(type_)
        or isinstance(type_, pa.BaseExtensionType)
    ):
        return type_
    children = [type_.field(position).type for position in range(type_.num_fields)]
    return next((bad for child in children if (bad := _unsafe_type(child))), None)


def _check_same_schema(schema: pa.Schema, path: str, first: pa.Schema, first_path: str) -> None:
    here, there = ({field.name: field.type for field in each} for each in (schema, first))
    for name in [*there, *here]:
        if here.get(name) != there.get(name):
            raise InputError(
                f"the files of the input differ: column {name!r} is {here.get(name, 'absent')} in {path} "
                f"and {there.get(name, 'absent')} in {first_path}; write them with one schema"
            )


def _check_sizes(footer: pq.FileMetaData, path: str) -> None:
    """Refuse what a footer shows to be a bomb: few rows that unpack to very much."""
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        values = sum(group.column(index).num_values for index in range(group.num_columns))
        claimed_bytes = group.total_byte_size + 12 * values  # each value: 8 bytes or an offset, and its levels
        if claimed_bytes > MAX_ROW_READ_BYTES * max(group.num_rows, 1):
            raise InputError(
                f"{path}: row group {number} unpacks to {claimed_bytes} bytes in {group.num_rows} rows, over "
                f"{MAX_ROW_READ_BYTES} a row; a query's candidates do not need that. Shorten or drop them"
            )


def read_ids(filesystem: FileSystem, path: str) -> list[pa.Array]:
    """The query_id column of a file in batches, as strings that are neither null, empty nor too long."""
    try:
        return _read_ids(filesystem, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot read column {QUERY_ID!r}: {brief(error)}") from error


@retry_transient_errors
def _read_ids(filesystem: FileSystem, path: str) -> list[pa.Array]:
    """Read as dictionary first: equal long strings then take no more memory than they do in the file."""
    batches: list[pa.Array] = []
    row = 0
    with filesystem.open_input_file(path) as source, pq.ParquetFile(source, read_dictionary=[QUERY_ID]) as file:
        for batch in file.iter_batches(columns=[QUERY_ID], use_threads=False):
            batches.append(_checked_ids(batch.column(0), row, path))
            row += batch.num_rows
    return batches


def _checked_ids(ids: pa.Array, first_row: int, path: str) -> pa.Array:
    values = ids.dictionary if pa.types.is_dictionary(ids.type) else ids
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > MAX_ID_CHARS:
        raise InputError(f"{path}: a query_id of {longest} bytes, near row {first_row}; at most {MAX_ID_CHARS}")
    plain = ids.cast(pa.string()) if not pa.types.is_string(ids.type) else ids
    bad = pc.or_kleene(pc.is_null(plain), pc.equal(plain, ""))
    position = pc.index(bad, True).as_py()
    if position >= 0:
        what = "null" if not plain[position].is_valid else "empty"
        raise InputError(f"{path}: query_id of row {first_row + position} is {what}; give every query its own")
    plain.validate(full=True)
    return plain


def _raise_duplicate(query_ids: pa.ChunkedArray, files: Sequence[InputFile]) -> None:
    table = pa.table({QUERY_ID: query_ids}).group_by(QUERY_ID).aggregate([([], "count_all")])
    repeated = table.filter(pc.greater(table["count_all"], 1))
    query_id = repeated[QUERY_ID][0].as_py()
    rows = pc.indices_nonzero(pc.equal(query_ids, query_id)).to_pylist()[:2]
    positions = " and ".join(_position(row, files) for row in rows)
    raise InputError(
        f"{repeated.num_rows} query_ids occur more than once, {query_id!r} in {positions}; every query needs its own"
    )


def _position(row: int, files: Sequence[InputFile]) -> str:
    for file in files:
        if row < file.rows:
            return f"row {row} of {file.path}"
        row -= file.rows
    raise AssertionError(row)


def _form(form: str) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in (NESTED_INPUT if form == "nested" else LONG_INPUT))
