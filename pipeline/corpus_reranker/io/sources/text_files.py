"""The input formats "csv", "tsv" and "jsonl": candidates in UTF-8 text files, plain or compressed.

CSV and TSV have a header line and are in long form; JSONL is in long or nested form. Memory is bounded, because files
are read in blocks of `text_content.BLOCK_BYTES`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources import text_content
from corpus_reranker.io.sources.arrow_types import are_exact_as_doubles
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.conversion import convert_batch
from corpus_reranker.io.sources.json_lines import read_jsonl
from corpus_reranker.io.sources.listing import format_of, list_input, select_data
from corpus_reranker.io.sources.row_stream import open_stream
from corpus_reranker.io.sources.schema_check import Form, input_schema
from corpus_reranker.io.sources.text_content import (
    PREFIX_BYTES,
    check_delimiter,
    check_prefix,
    open_text_stream,
    reading_text,
)

_NUMBERS = ("score", "rank")

Reader: TypeAlias = Callable[[FileSystem, str, Mapping[str, str]], Iterator[pa.RecordBatch]]
"""Reads a file at a path; the last argument is `input.columns`."""


def open_csv(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open CSV. Fields in double quotes may contain commas and line breaks."""
    return _open(settings, storage, _read_csv)


def open_tsv(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open TSV. As in MS MARCO's files, quotes have no meaning, so a field cannot contain a tab or a line break."""
    return _open(settings, storage, _read_tsv)


def open_jsonl(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open JSON Lines: an object per candidate, or per query with the list `candidates`."""
    return _open(settings, storage, read_jsonl)


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TextFiles:
    """Text files of one input, sorted by path. `schema` and `columns` are as in `ParquetFiles`."""

    filesystem: FileSystem
    files: tuple[TextFile, ...]
    schema: pa.Schema
    columns: dict[str, str]
    reader: Reader

    @property
    def name(self) -> str:
        return "the input"

    @property
    def uncompressed_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]

    def rows(self) -> Iterator[pa.Table]:
        """The rows in order. Raises InputError."""
        for file in self.files:
            with reading_text(file.path):
                for batch in self.reader(self.filesystem, file.path, self.columns):
                    if batch.num_rows:
                        yield convert_batch(batch, self.schema, self.columns)

    def fingerprint_fields(self) -> dict[str, Any]:
        columns = {"columns": self.columns} if self.columns else {}
        return {"bytes": self.uncompressed_bytes, **columns}

    def describe(self, form: Form) -> str:
        return f"{counted(len(self.files), 'text file')}, {counted(self.uncompressed_bytes, 'byte')} ({form} form)"


def _open(settings: InputConfig, storage: StorageConfig, reader: Reader) -> Source:
    listing = list_input(settings.path, storage)
    is_data = [format_of(info.path) == settings.format for info in listing.files]
    infos = select_data(listing, is_data, settings.path, settings.format.upper())
    schemas = {info.path: _schema(listing.filesystem, info.path, reader, settings.columns) for info in infos}
    form, schema = input_schema(
        schemas,
        settings,
        lambda path, column: _is_exact(reader(listing.filesystem, path, settings.columns), path, column),
    )
    files = tuple(TextFile(info.path, info.size) for info in infos)
    text_files = TextFiles(listing.filesystem, files, schema, settings.columns, reader)
    return open_stream(text_files, form, settings.max_candidates)


def _schema(filesystem: FileSystem, path: str, reader: Reader, columns: Mapping[str, str]) -> pa.Schema:
    with reading_text(path):
        with open_text_stream(filesystem, path) as stream:
            check_prefix(stream.read(PREFIX_BYTES), path)
        batch = next(reader(filesystem, path, columns), None)
    if batch is None:
        raise InputError(f"{path} is empty; it needs a header or a first object")
    return batch.schema


def _is_exact(batches: Iterator[pa.RecordBatch], path: str, column: str) -> bool:
    """Whether doubles hold all integers of a column. Reads the whole file."""
    with reading_text(path):
        return all(are_exact_as_doubles(batch.column(column)) for batch in batches)


def _read_csv(filesystem: FileSystem, path: str, columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    return _read_delimited(filesystem, path, columns, pa_csv.ParseOptions(newlines_in_values=True))


def _read_tsv(filesystem: FileSystem, path: str, columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    return _read_delimited(filesystem, path, columns, pa_csv.ParseOptions(delimiter="\t", quote_char=False))


def _read_delimited(
    filesystem: FileSystem, path: str, columns: Mapping[str, str], parse_options: pa_csv.ParseOptions
) -> Iterator[pa.RecordBatch]:
    """Read all columns as text, except score and rank: a type that is inferred from the first block can be wrong."""
    read_options = pa_csv.ReadOptions(block_size=text_content.BLOCK_BYTES)
    with open_text_stream(filesystem, path) as stream, pa_csv.open_csv(stream, read_options, parse_options) as batches:
        names = batches.schema.names
    check_delimiter(names, parse_options.delimiter, path)
    numbers = {columns.get(name, name) for name in _NUMBERS}
    types = {name: pa.float64() if name in numbers else pa.string() for name in names}
    options = pa_csv.ConvertOptions(column_types=types)
    with (
        open_text_stream(filesystem, path) as stream,
        pa_csv.open_csv(stream, read_options, parse_options, options) as batches,
    ):
        yield pa.RecordBatch.from_pylist([], batches.schema)  # a header without rows also has a schema
        yield from batches
