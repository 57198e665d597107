"""Reads JSON Lines with pyarrow. Error messages have the line number in the file."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import CANDIDATE, LONG_INPUT
from corpus_reranker.io.sources import text_content
from corpus_reranker.io.sources.text_content import open_text_stream

_MAX_DEPTH = 1_000
"""Arrow's parser recurses for each bracket, and several thousand levels crash the process."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

_NO_BRACKET = re.compile(rb"[^\[\]{}]+")

SURROGATE = re.compile("[\ud800-\udfff]")
"""A lone surrogate, which is not a character."""


def read_jsonl(filesystem: FileSystem, path: str, columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file in blocks; `columns` is `input.columns`.

    A field that is a string in the first object is read as a string in all objects: pyarrow would read `2020-02-29` as
    a timestamp.
    """
    first = _first_object(filesystem, path)
    types = [(name, type_) for name, value in first.items() if (type_ := _type_of(name, value, columns)) is not None]
    options = pa_json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="infer")
    read_options = pa_json.ReadOptions(block_size=text_content.BLOCK_BYTES)
    try:
        with (
            open_text_stream(filesystem, path) as stream,
            pa_json.open_json(_CheckedLines(stream, path), read_options, options) as batches,
        ):
            yield from batches
    except pa.ArrowInvalid:
        _check_lines(filesystem, path)  # pyarrow counts rows from the start of a block
        raise


class _CheckedLines(io.RawIOBase):
    """A stream that raises InputError before the parser gets a line that would crash the process."""

    def __init__(self, stream: Any, path: str) -> None:
        self._stream, self._path = stream, path
        self._line_start, self._number = b"", 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Each line is checked before its last byte is returned."""
        data: bytes = self._stream.read(size)
        *lines, self._line_start = (self._line_start + data).split(b"\n") if data else [self._line_start, b""]
        for line in lines:
            self._number += 1
            if line.count(b"[") + line.count(b"{") > _MAX_DEPTH and _depth(line) > _MAX_DEPTH:
                raise InputError(_too_deep(self._path, self._number))
        return data


def _depth(line: bytes) -> int:
    """The maximum number of brackets that are open at once."""
    brackets = _NO_BRACKET.sub(b"", _STRING.sub(b"", line))
    return max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0)


def _check_lines(filesystem: FileSystem, path: str) -> None:
    """Raise InputError for the first line without an object that Arrow can hold."""
    with open_text_stream(filesystem, path) as raw, io.BufferedReader(raw) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                _parse(line.decode("utf-8", "replace"), path, number)


def _first_object(filesystem: FileSystem, path: str) -> dict[str, Any]:
    """The object in the first line that is not blank."""
    with open_text_stream(filesystem, path) as raw, io.BufferedReader(raw) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                return _parse(line, path, number)
    raise InputError(f"{path} is empty; remove it, or write it again")


def _parse(line: str | bytes, path: str, number: int) -> dict[str, Any]:
    """The object in a line. Raises InputError if there is none, or one that Arrow cannot hold."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        raise
    except RecursionError as error:
        raise InputError(_too_deep(path, number)) from error
    except ValueError as error:
        raise InputError(f"{path}: line {number} is not JSON: {error}; JSON Lines hold one object per line") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}: line {number} holds no object; JSON Lines hold one object per line")
    if SURROGATE.search(json.dumps(row, ensure_ascii=False)):
        raise InputError(
            f"{path}: line {number} holds a lone surrogate (such as \\ud83d), which is not a character;"
            " write the whole character"
        )
    return row


def _too_deep(path: str, number: int) -> str:
    return f"{path}: line {number} is nested too deeply; drop that value, or write it as text"


def _type_of(name: str, value: Any, columns: Mapping[str, str]) -> pa.DataType | None:
    """The type of a field of the first object; None: pyarrow infers it from the first block."""
    known = {columns.get(field.name, field.name): field.type for field in [*LONG_INPUT, *CANDIDATE]}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        fields = [(each, type_) for each, found in value[0].items() if (type_ := _type_of(each, found, columns))]
        return pa.list_(pa.struct(fields))
    if isinstance(value, str) or (value is None and known.get(name) == pa.string()):
        return pa.string()
    return pa.float64() if known.get(name) == pa.float64() else None
