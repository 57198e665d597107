"""Digests of the files of an input, which reveal a changed input even if sizes and times are the same.

A digest covers all bytes of a file and is computed once: a resumed run does not read a file again if its version in the
store is the recorded one. A copy of the files in another folder or under other names has the same digests.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem, LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import IO_THREADS, is_s3, resolve, retry_transient_errors
from corpus_reranker.io.s3_client import in_region_of, open_s3fs
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import brief

_PIECE_BYTES = 8 * 2**20
"""Size of one read. IO_THREADS of them are in memory."""

_QUEUED_PIECES = 1024
"""Maximum number of queued reads: an input of 20 TB has millions of pieces."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input.

    Attributes:
        name: Its path below that of the input.
        size_bytes: Its size.
        version: A value that every write changes: the ETag on S3, otherwise the file's timestamps. Empty if unknown.
        digest: 16 hex digits of a hash of its bytes.
    """

    name: str
    size_bytes: int
    version: str
    digest: str = ""


def identify_files(
    url: str, storage: StorageConfig, paths: Sequence[str], recorded: Iterable[InputFile] = ()
) -> list[InputFile]:
    """The files of an input, sorted by name, with their digests. Deleted files are skipped.

    Args:
        url: The path of the input.
        storage: How to reach it.
        paths: The files, as paths in the filesystem of `url`.
        recorded: The files as an earlier call found them. Files that have not changed since are not read.

    Raises:
        InputError: A file cannot be read.
    """
    if not paths:
        return []
    filesystem, root = resolve(url, storage)
    digest_of = {replace(file, digest=""): file.digest for file in recorded if file.version}
    try:
        files = {
            path: replace(file, name=_name(path, root)) for path, file in _stat(filesystem, url, root, storage, paths)
        }
        unread = {path: file.size_bytes for path, file in files.items() if file not in digest_of}
        digests = _read_digests(filesystem, unread)
    except OSError as error:
        raise InputError(f"cannot read the input {redact(url)}: {brief(error)}") from error
    identified = [replace(file, digest=digests.get(path) or digest_of[file]) for path, file in files.items()]
    return sorted(identified, key=lambda file: file.name)


def digest_by_name(files: Sequence[InputFile], recorded: Sequence[InputFile] = ()) -> dict[str, str]:
    """Name -> digest of each file. If all files have the recorded content, the names are the recorded ones."""
    moved = Counter(file.digest for file in files) == Counter(file.digest for file in recorded)
    return {file.name: file.digest for file in (recorded if moved else files)}


def _name(path: str, root: str) -> str:
    return path[len(root) :].strip("/") or path.rpartition("/")[2]


def _stat(
    filesystem: FileSystem, url: str, root: str, storage: StorageConfig, paths: Sequence[str]
) -> Iterator[tuple[str, InputFile]]:
    """Path, size and version of each file that exists; `root` is the path of `url`."""
    if is_s3(url):  # pyarrow drops the ETags of a listing
        objects = _objects(in_region_of(root.partition("/")[0], storage), root)
        for path in filter(objects.__contains__, paths):
            yield path, InputFile("", objects[path]["size"], objects[path].get("ETag", ""))
        return
    for info in filesystem.get_file_info(list(paths)):
        if info.is_file:
            version = str(info.mtime_ns or "")
            if isinstance(filesystem, LocalFileSystem):  # a copy can preserve the time of the last write
                version += f"/{Path(info.path).stat().st_ctime_ns}"
            yield info.path, InputFile("", info.size, version)


def _objects(storage: StorageConfig, root: str) -> Mapping[str, Mapping[str, Any]]:
    """The objects under `root`, by path, with size and ETag. Raises OSError."""
    from botocore.exceptions import BotoCoreError

    try:
        objects: Mapping[str, Mapping[str, Any]] = open_s3fs(storage).find(root, detail=True)
        return objects
    except BotoCoreError as error:  # the store does not answer
        raise ConnectionError(f"cannot list {root}: {error}") from error


def _read_digests(filesystem: FileSystem, size_of: Mapping[str, int]) -> dict[str, str]:
    """The digest of each file, computed from the digests of its pieces, so that threads can share a large file."""
    digests = {path: hashlib.sha256() for path in size_of}
    pieces = ((path, offset) for path, size in size_of.items() for offset in range(0, size, _PIECE_BYTES))
    with ThreadPoolExecutor(IO_THREADS) as pool:
        while queued := list(islice(pieces, _QUEUED_PIECES)):
            for (path, _), digest in zip(
                queued, pool.map(lambda piece: _digest(filesystem, *piece), queued), strict=True
            ):
                digests[path].update(digest)
    return {path: digest.hexdigest()[:16] for path, digest in digests.items()}


@retry_transient_errors
def _digest(filesystem: FileSystem, path: str, offset: int) -> bytes:
    with filesystem.open_input_file(path) as file:
        return hashlib.sha256(file.read_at(_PIECE_BYTES, offset)).digest()
