"""The files of an input."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import resolve, retry_transient_errors
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import brief

FORMAT_OF_ENDING = {"csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
"""Suffix of a file name -> the value of `input.format` for it."""

_COMPRESSION = (".gz", ".bz2", ".zst")

_NOTES = (".crc", ".html", ".json", ".log", ".md", ".txt", ".yaml", ".yml")
"""Suffixes of files that are skipped. Any other file could be a part of the input."""

_COLLECTION = ("corpus.", "collection.", "queries.", "qrels.", "run.", "top1000.")
"""Prefixes of file names in BEIR, MS MARCO and TREC collections."""

_TABLES = {
    "_delta_log": "a Delta table, whose files may hold deleted rows; set input.format=delta",
    ".hoodie": "a Hudi table, whose files may hold deleted rows; write its current rows as Parquet",
    "metadata": "an Iceberg table, whose files may hold deleted rows; set input.format=iceberg",
}
"""Name of a table's metadata folder -> what its parent folder is, and the fix."""

_ICEBERG_METADATA = ".metadata.json"

_FIRST_REQUEST_ATTEMPTS = 3
"""Few attempts, so that a wrong endpoint is reported in seconds: the AWS SDK doubles the delay between attempts."""


class Listing(NamedTuple):
    """The files of an input, sorted by path. `is_folder` is False if the input's path is a file."""

    filesystem: FileSystem
    files: list[FileInfo]
    is_folder: bool


def list_input(url: str, storage: StorageConfig) -> Listing:
    """The file at `url`, or the files below the folder at `url`.

    Names that begin with _ or . are skipped, as in Ray, Spark and pyarrow.

    Raises:
        InputError: There is no file or folder, the folder holds a table whose metadata decides which files are data,
            or an entry of the folder is neither a file nor a folder, but a link to a missing file or a pipe.
    """
    filesystem, path = resolve(url, storage)
    fail_fast = storage.model_copy(update={"max_attempts": min(storage.max_attempts, _FIRST_REQUEST_ATTEMPTS)})
    try:
        info = retry_transient_errors(resolve(url, fail_fast)[0].get_file_info)(path)
        if info.type == FileType.File:
            return Listing(filesystem, [info], is_folder=False)
        entries = filesystem.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
        if isinstance(filesystem, LocalFileSystem):
            _check_local_entries(path)
    except OSError as error:
        raise InputError(f"cannot list the input {redact(url)}: {brief(error)}") from error
    _check_no_table([info.path for info in entries], path, url)
    files = [info for info in entries if info.type == FileType.File and _is_visible(info.path, path)]
    files.sort(key=lambda info: info.path)
    if not files and info.type != FileType.Directory:
        raise InputError(f"input.path: there is no file or folder {redact(url)}")
    return Listing(filesystem, files, is_folder=True)


def _is_visible(path: str, folder: str) -> bool:
    return not any(map(_is_hidden, path[len(folder) :].strip("/").split("/")))


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _check_local_entries(folder: str) -> None:
    """Raise InputError for an entry that is neither a file nor a folder. pyarrow's listings skip such entries."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for path in (Path(parent, name) for name in names if not _is_hidden(name)):
            if not path.is_file():
                what = "a link to a file that is missing" if path.is_symlink() else "not a file"
                raise InputError(f"input.path: {path} is {what}; remove it, or start its name with _")


def _check_no_table(paths: Sequence[str], folder: str, url: str) -> None:
    """Raise InputError if the folder, or a folder below it, is a table whose metadata decides which files are data."""
    for path in paths:
        parent, _, name = path[len(folder) :].strip("/").rpartition("/")
        table, _, metadata = parent.rpartition("/")
        if metadata in _TABLES and (metadata != "metadata" or name.endswith(_ICEBERG_METADATA)):
            where = f"{redact(url).rstrip('/')}/{table}".rstrip("/")
            raise InputError(f"input.path: {where} is {_TABLES[metadata]}")


def select_data(listing: Listing, is_data: Sequence[bool], url: str, format_name: str) -> list[FileInfo]:
    """The files that are data.

    Args:
        listing: The files of the input.
        is_data: Whether each file has the format.
        url: The input, for messages.
        format_name: The format, for messages.

    Raises:
        InputError: Another file could be a part of the input, or there is no data.
    """
    if not listing.is_folder:
        return listing.files
    data = [info for info, chosen in zip(listing.files, is_data, strict=True) if chosen]
    others = [info.path for info, chosen in zip(listing.files, is_data, strict=True) if not chosen]
    unknown = [path for path in others if not path.endswith(_NOTES)]
    if unknown:
        raise InputError(
            f"input.path: {redact(url)} has {counted(len(unknown), 'file')} not in {format_name} format"
            f" ({_names(unknown)}); move such files away, or start their names with _{format_hint(unknown)}"
        )
    if not data:
        whole_path = "; to read a file regardless of its name, set input.path to the file"
        hint = format_hint(others) or (whole_path if others else "")
        found = f" ({_names(others)})" if others else ""
        raise InputError(f"input.path: there is no {format_name} file in {redact(url)}{found}{hint}")
    return data


def describe_skipped(url: str, storage: StorageConfig, paths: Sequence[str]) -> str | None:
    """A line about the files of an input that are neither data nor hidden.

    Args:
        url: The input.
        storage: How to reach it.
        paths: Its files that are data, as in `Source.paths`.

    Returns:
        The line; None if there are no such files, or the input does not consist of files.
    """
    if not paths:
        return None
    data = set(paths)
    skipped = [info.path for info in list_input(url, storage).files if info.path not in data]
    return f"{counted(len(skipped), 'file')} of the input skipped, not data: {_names(skipped)}" if skipped else None


def format_hint(paths: Sequence[str]) -> str:
    """The end of a message about files in a format other than `input.format`.

    It depends on the names: they may be those of a collection without candidates, or show another format.
    """
    names = [path.rpartition("/")[2] for path in paths]
    if any(name.startswith(_COLLECTION) for name in names):
        return "; if this is a collection, make candidates from it with retrieve or assemble"
    found = next((name for path in paths if (name := format_of(path))), None)
    return f"; to read {found.upper()}, set input.format={found}" if found else ""


def format_of(path: str) -> str | None:
    """The value of `input.format` that fits a file's name; None if the name fits no format."""
    for ending in _COMPRESSION:
        path = path.removesuffix(ending)
    return FORMAT_OF_ENDING.get(path.rpartition(".")[2].lower())


def _names(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
