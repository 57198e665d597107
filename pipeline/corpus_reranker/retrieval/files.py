"""Finds the files of a path."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, TypeAlias

from pyarrow.fs import FileSelector, FileSystem, FileType

from corpus_reranker.errors import InputError

Role: TypeAlias = Literal["corpus", "queries", "run"]

_COMPRESSED = (".gz", ".bz2", ".zst")

_NAMES = {"corpus": ("corpus", "collection"), "queries": ("queries", "topics"), "run": ("run", "top1000")}
"""Beginnings of the names of files and folders in BEIR, MS MARCO and TREC."""


def is_compressed(path: str) -> bool:
    return path.endswith(_COMPRESSED)


def suffix_of(path: str) -> str:
    """The suffix without compression: ".jsonl" for "x.jsonl.gz"."""
    name = PurePosixPath(path)
    return name.with_suffix("").suffix if is_compressed(path) else name.suffix


def find_files(filesystem: FileSystem, path: str, suffixes: Sequence[str], role: Role) -> list[Any]:
    """FileInfo of the file at `path`, or of the files below the folder with one of `suffixes`, sorted by path.

    `*` in `path` matches any characters within a name: `documents/biology-*.parquet`. Names that start with "_" or "."
    are not data. In a folder of a whole collection (BEIR's corpus.jsonl, queries.jsonl and qrels/), only the files of
    `role` are data. Raises InputError if there is no file.
    """
    info = filesystem.get_file_info(path)
    if info.type == FileType.File:
        return [info]
    if info.type != FileType.Directory and (matching := match_files(filesystem, path)):
        return matching
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
    others = tuple(name for other, names in _NAMES.items() if other != role for name in names)
    if any(_is_named(file.path, path, (*others, "qrels")) for file in found):
        found = [file for file in found if _is_named(file.path, path, _NAMES[role])]
        if not found:
            raise InputError(f"folder {path} holds a collection, but no file named {_NAMES[role][0]}; name the file")
    return sorted(found, key=lambda file: file.path)


def match_files(filesystem: FileSystem, pattern: str) -> list[Any]:
    """FileInfo of the files whose path is `pattern`, in which `*` matches any characters within a name, sorted."""
    parts = PurePosixPath(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if "*" in part), len(parts) - 1)
    folder = FileSelector(str(PurePosixPath(*parts[:fixed])), recursive=True, allow_not_found=True)
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    found = filesystem.get_file_info(folder)
    matching = [file for file in found if file.type == FileType.File and PurePosixPath(file.path).match(literal)]
    return sorted(matching, key=lambda file: file.path)


def _is_named(path: str, folder: str, beginnings: tuple[str, ...]) -> bool:
    return any(part.startswith(beginnings) for part in PurePosixPath(path).relative_to(folder).parts)
