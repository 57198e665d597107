"""Downloads the folder of a model from a URL, once per node."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import filelock

from corpus_reranker.errors import ConfigError, EngineStartError
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

WEIGHTS_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".ot"})
"""Suffixes of weights files in the formats of the Hugging Face hub."""

_SECOND_CHOICE_WEIGHTS = WEIGHTS_SUFFIXES - {".safetensors", ".gguf"}
"""Formats that a repository often has in addition to safetensors. vLLM prefers safetensors."""

_DOWNLOAD_THREADS = 8
_LOCK_SECONDS = 3600.0
"""How long a replica waits for another replica's download. A 32B model (65 GB) takes 54 minutes at 20 MB/s."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in the folder of a model."""

    path: PurePosixPath
    """Relative to the folder."""
    size_bytes: int
    changed_ns: int


def remote_files(url: str, storage: StorageConfig) -> list[RemoteFile]:
    """The files in the folder at `url`, without hidden files. Raises ConfigError if it cannot be listed."""
    from corpus_reranker.io.filesystem import list_files, resolve
    from corpus_reranker.io.storage_errors import brief

    filesystem, folder = resolve(url, storage)
    try:
        infos = list_files(filesystem, folder, recursive=True)
    except OSError as error:
        raise ConfigError(f"cannot list the model folder {redact(url)}: {brief(error)}") from error
    files = [RemoteFile(PurePosixPath(info.path).relative_to(folder), info.size, info.mtime_ns or 0) for info in infos]
    return [file for file in files if not any(part.startswith(".") for part in file.path.parts)]


def downloaded_folder(url: str, storage: StorageConfig, cache: Path | None = None, *, weights: bool = True) -> Path:
    """Download the folder at `url`, unless this node has it already.

    The name of the local folder has a hash of the files' names, sizes and times, so that a changed model gets a new
    folder. The download has a temporary name until it is complete. One process per node downloads under a file lock,
    and the others wait. If that process dies, the lock is released, and the next process deletes the incomplete
    download.

    Args:
        url: Folder of a model, a tokenizer or a LoRA adapter.
        storage: How to reach an s3:// URL.
        cache: Folder for downloads; None: corpus-reranker/models in the user's cache folder.
        weights: False leaves out the weights.

    Raises:
        ConfigError: The URL cannot be listed, or holds no file.
        EngineStartError: The download failed, the disk is full, or the other process took too long.
    """
    files = select_files(remote_files(url, storage), weights)
    if not files:
        raise ConfigError(f"the model folder {url} holds no files")
    listing = json.dumps([url, [(str(file.path), file.size_bytes, file.changed_ns) for file in files]])
    name = re.sub(r"[^\w.-]", "_", url.rstrip("/").rpartition("/")[2])
    cache = cache or _default_cache()
    target = cache / f"{name}-{hashlib.sha256(listing.encode()).hexdigest()[:16]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / f"{target.name}.lock", timeout=_LOCK_SECONDS):
            if not _is_complete(target, files):
                _download(url, storage, files, target)
    except filelock.Timeout:
        raise EngineStartError(
            f"another process of this node took more than {_LOCK_SECONDS:.0f} s to download {url} to {target}"
        ) from None
    except OSError as error:
        raise EngineStartError(f"cannot download {url} to {target}: {error}") from error
    return target


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corpus-reranker" / "models"


def select_files(files: Sequence[RemoteFile], weights: bool) -> list[RemoteFile]:
    """The files that an engine needs, sorted by path: weights in one format, or none."""
    if not weights:
        unwanted = WEIGHTS_SUFFIXES
    elif any(file.path.suffix == ".safetensors" for file in files):
        unwanted = _SECOND_CHOICE_WEIGHTS
    else:
        unwanted = frozenset()
    return sorted((file for file in files if file.path.suffix not in unwanted), key=lambda file: file.path)


def _is_complete(folder: Path, files: Sequence[RemoteFile]) -> bool:
    """Whether the folder holds every file at its full size. Files may have been deleted since the download."""
    paths = [(folder / file.path, file.size_bytes) for file in files]
    return all(path.is_file() and path.stat().st_size == size_bytes for path, size_bytes in paths)


def _download(url: str, storage: StorageConfig, files: Sequence[RemoteFile], target: Path) -> None:
    from corpus_reranker.io.filesystem import resolve

    partial = target.with_name(f"{target.name}.partial")
    for leftover in (partial, target):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    size_bytes, free_bytes = sum(file.size_bytes for file in files), shutil.disk_usage(partial).free
    if size_bytes > free_bytes:
        raise OSError(
            f"it has {size_bytes / 1e9:.1f} GB, and {partial.parent} has {free_bytes / 1e9:.1f} GB free;"
            " set engine.download_dir to a larger disk"
        )
    filesystem, folder = resolve(url, storage)
    with ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool:
        for _ in pool.map(lambda file: _copy(filesystem, folder, file, partial), files):
            pass
    if not _is_complete(partial, files):
        raise OSError("it changed while it was downloaded; start again")
    partial.rename(target)


def _copy(filesystem: "FileSystem", folder: str, file: RemoteFile, target: Path) -> None:
    from pyarrow.fs import LocalFileSystem, copy_files

    from corpus_reranker.io.filesystem import join, retry_transient_errors

    path = target / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    retry_transient_errors(copy_files)(
        join(folder, str(file.path)),
        str(path),
        source_filesystem=filesystem,
        destination_filesystem=LocalFileSystem(),
        use_threads=False,
    )
