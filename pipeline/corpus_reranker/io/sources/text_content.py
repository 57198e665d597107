"""Opens text files, and reports those that are not UTF-8 text in the expected format, with the fix."""

import codecs
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.sources.parquet_files import reading

BLOCK_BYTES = 16 * 2**20
"""Size of the blocks in which a file is parsed. A line must not be longer."""

PREFIX_BYTES = 4

_NOT_TEXT = {
    codecs.BOM_UTF16_LE: "is in UTF-16; save it as UTF-8",
    codecs.BOM_UTF16_BE: "is in UTF-16; save it as UTF-8",
    b"\x1f\x8b": "is compressed; rename it to end with .gz",
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"PAR1": "is Parquet; set input.format=parquet",
}
"""First bytes of files that are not text in UTF-8 -> what they are, and the fix."""

_NOT_UTF8 = "invalid UTF8"
"""Part of pyarrow's error message."""

_NOT_A_NUMBER = "conversion error to double"
"""Part of pyarrow's error message. Scores and ranks are the only columns that are read as numbers."""

_FORMAT_OF_DELIMITER = {",": "csv", "\t": "tsv"}

_OTHER_DELIMITERS = (";", "|")


def open_text_stream(filesystem: FileSystem, path: str) -> Any:
    """Open a file as bytes, decompressed if its name has the suffix of a compression format."""
    return filesystem.open_input_stream(path, compression="detect")


def check_prefix(first_bytes: bytes, path: str) -> None:
    """Raise InputError if the first PREFIX_BYTES bytes of a file show that it is not UTF-8 text."""
    for prefix, problem in _NOT_TEXT.items():
        if first_bytes.startswith(prefix):
            raise InputError(f"{path} {problem}")


def check_delimiter(names: Sequence[str], delimiter: str, path: str) -> None:
    """Raise InputError if a header has only one name and that name contains another delimiter."""
    if len(names) != 1:
        return
    for other in (*_FORMAT_OF_DELIMITER, *_OTHER_DELIMITERS):
        if other in names[0]:
            known = _FORMAT_OF_DELIMITER.get(other)
            fix = f"set input.format={known} and rename it to end with .{known}" if known else f"write {delimiter!r}"
            raise InputError(f"{path}: the header has {other!r} between its names, not {delimiter!r}; {fix}")


@contextlib.contextmanager
def reading_text(path: str) -> Iterator[None]:
    """Raise InputError for errors of pyarrow and Python about the text file at `path`."""
    try:
        with reading(path):
            yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}; save it as UTF-8") from error
    except InputError as error:
        if _NOT_UTF8 in str(error):
            raise InputError(f"{error}; save it as UTF-8") from error
        if _NOT_A_NUMBER in str(error):
            raise InputError(f"{error}; write scores and ranks as numbers such as 2.5") from error
        raise
