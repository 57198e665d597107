"""Finds the files of a path."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from corpus_reranker.errors import InputError

_COMPRESSED = (".gz", ".bz2", ".zst")


def is_compressed(path: str) -> bool:
    return path.endswith(_COMPRESSED)


def suffix_of(path: str) -> str:
    """The suffix without compression: ".jsonl" for "x.jsonl.gz"."""
    name = PurePosixPath(path)
    return name.with_suffix("").suffix if is_compressed(path) else name.suffix


def find_files(filesystem: FileSystem, path: str, suffixes: Sequence[str]) -> list[Any]:
    """FileInfo of the file at `path`, or of the files below the folder with one of `suffixes`, sorted by path.

    Names that start with "_" or "." are not data. Raises InputError if there is no file.
    """
    info = filesystem.get_file_info(path)
    if info.type == FileType.File:
        return [info]
    if info.type != FileType.Directory:
        raise InputError(f"no such file or folder: {path}")
    found = [
        file
        for file in filesystem.get_file_info(FileSelector(path, recursive=True))
        if file.type == FileType.File
        and suffix_of(file.path) in suffixes
        and not any(part.startswith(("_", ".")) for part in PurePosixPath(file.path).relative_to(path).parts)
    ]
    if not found:
        raise InputError(f"folder {path} holds no {' or '.join(suffixes)} file")
    return sorted(found, key=lambda file: file.path)
