"""Resolve a path or URL to a pyarrow filesystem and the path in it.

The tests cover local paths and `s3://`. Other URLs are resolved by pyarrow (`gs://`, `abfs://`, `hdfs://`), or by
fsspec if pyarrow does not know the scheme; fsspec needs the package of that filesystem.
"""

import contextlib
import functools
import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import tenacity
from pyarrow.fs import AwsStandardS3RetryStrategy, FileInfo, FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem
from pyarrow.fs import FileSelector as FileSelector
from pyarrow.fs import FileType as FileType
from pyarrow.fs import S3FileSystem as _S3FileSystem

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.s3_client import in_region_of, open_data_filesystem, open_s3fs
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import error_kind

# By default, the AWS SDK of pyarrow sends CRC64-NVME trailers, which S3-compatible servers refuse or store as content.
os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")

IO_THREADS = 16
"""Maximum number of concurrent requests of one call."""

S3_SCHEMES = ("s3", "s3a", "s3n")


def is_transient(error: BaseException) -> bool:
    """Whether a retry within seconds can succeed after this storage error."""
    return isinstance(error, OSError) and error_kind(error).within_seconds


retry_transient_errors = tenacity.retry(
    retry=tenacity.retry_if_exception(is_transient),
    stop=tenacity.stop_after_attempt(6),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    reraise=True,
)
"""Decorator that retries a function after transient errors. It must be safe to repeat, such as a read.

The AWS SDK also retries, but not if the body of a 503 is longer than the few bytes that were requested."""


class S3FileSystem(_S3FileSystem):  # type: ignore[misc]
    """pyarrow's S3 filesystem without folders. It pickles with all its settings; the base class loses retry_strategy.

    The base class writes an empty object for each folder, and again after each deletion. For that, it asks whether the
    bucket exists, which needs a permission (s3:ListBucket on the whole bucket) that no other request needs.

    Neither the object nor its pickle holds credentials; each process finds them with the AWS chain.
    """

    def __init__(self, storage: StorageConfig) -> None:
        endpoint = urlsplit(storage.endpoint_url) if storage.endpoint_url else None
        super().__init__(
            anonymous=storage.anonymous,
            region=storage.region or ("us-east-1" if endpoint and not _region_in_environment() else None),
            scheme=endpoint.scheme if endpoint else None,
            endpoint_override=endpoint.netloc + endpoint.path.rstrip("/") if endpoint else None,
            force_virtual_addressing=not storage.path_style,
            connect_timeout=storage.connect_timeout_seconds,
            request_timeout=storage.request_timeout_seconds,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=storage.max_attempts),
        )
        self._storage = storage

    def __reduce__(self) -> tuple[Any, ...]:
        return S3FileSystem, (self._storage,)

    @functools.cached_property
    def _client(self) -> Any:
        return open_s3fs(self._storage)

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        """Do nothing: an object needs no folder."""

    def delete_file(self, path: str) -> None:
        """Delete an object; no error if there is none."""
        self._delete([path])

    def delete_dir(self, path: str) -> None:
        """Delete all objects under `path`."""
        self._delete([info.path for info in list_files(self, path, recursive=True)])

    def move(self, src: str, dest: str) -> None:
        """Copy an object, and delete the original."""
        self.copy_file(src, dest)
        self.delete_file(src)

    def _delete(self, paths: Sequence[str]) -> None:
        """Send one request per object, because stores differ in the checksum that a batch request needs."""

        def delete(path: str) -> None:
            bucket, _, key = path.partition("/")
            self._client.call_s3("delete_object", Bucket=bucket, Key=key)

        with ThreadPoolExecutor(IO_THREADS) as pool:
            list(pool.map(delete, paths))


def resolve(url: str, storage: StorageConfig) -> tuple[FileSystem, str]:
    """The filesystem of `url` and the path in it, without a trailing slash.

    Sends no request, except for `storage.region: auto` on AWS.

    Raises:
        ConfigError: No installed library knows the scheme, or the URL contains credentials.
    """
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111
    if scheme == "file":
        return LocalFileSystem(), os.path.abspath(unquote(urlsplit(url).path))  # noqa: PTH100
    if is_s3(url):
        path = s3_path(url)
        storage = in_region_of(path.partition("/")[0], storage)
        needs_s3fs = storage.requester_pays or storage.kms_key_id
        return open_data_filesystem(storage) if needs_s3fs else S3FileSystem(storage), path
    return _resolve_other(url)


def is_s3(url: str) -> bool:
    """Whether `url` is on S3 or an S3-compatible store."""
    return url.partition("://")[0].lower() in S3_SCHEMES


def s3_path(url: str) -> str:
    """`BUCKET/KEY` of a URL on S3. Raises ConfigError if it names no bucket, or contains credentials."""
    rest = url.partition("://")[2]
    if "@" in rest.partition("/")[0]:
        raise ConfigError(
            f"{redact(url)} holds credentials; provide them through the standard AWS chain, not in the URL"
        )
    if not rest.partition("/")[0]:
        raise ConfigError(f"{url} names no bucket; S3 URLs look like s3://bucket/folder")
    return _without_empty_segments(rest)


def canonical(url: str) -> str:
    """The canonical form of a location, equal for all its spellings. A folder's form is a prefix of its files' forms.

    `s3a://b//x/` and `s3://b/x` are the same location; so are `~/x`, its absolute path and its `file://` URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() == "file":
        return os.path.realpath(os.path.expanduser(unquote(urlsplit(url).path) if separator else url))  # noqa: PTH111
    return f"{'s3' if is_s3(url) else scheme.lower()}://{_without_empty_segments(rest)}"


def _without_empty_segments(path: str) -> str:
    """Remove empty segments, because pyarrow and s3fs interpret a//b differently."""
    return "/".join(segment for segment in path.split("/") if segment)


def join(folder: str, *names: str) -> str:
    """The path of `names` under `folder`, which is a path in a filesystem or a URL."""
    return posixpath.join(folder, *names)


@retry_transient_errors
def list_files(filesystem: FileSystem, folder: str, *, recursive: bool = False) -> list[FileInfo]:
    """Files in `folder` sorted by path; none if the folder does not exist."""
    selector = FileSelector(folder, recursive=recursive, allow_not_found=True)
    infos = [info for info in filesystem.get_file_info(selector) if info.type == FileType.File]
    return sorted(infos, key=lambda info: info.path)


def delete_files(filesystem: FileSystem, paths: Sequence[str]) -> None:
    """Delete files; no error for one that does not exist. Folders remain."""

    def delete(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(path)

    with ThreadPoolExecutor(IO_THREADS) as pool:
        list(pool.map(delete, paths))


def delete_folder(filesystem: FileSystem, folder: str) -> None:
    """Delete `folder` with its content if it exists."""
    if filesystem.get_file_info(folder).type != FileType.NotFound:
        filesystem.delete_dir(folder)


def delete_empty_folders(filesystem: FileSystem, paths: Sequence[str]) -> None:
    """Delete the folders that these deleted files left empty. Only local disk has such folders."""
    if isinstance(filesystem, LocalFileSystem):
        for folder in sorted({posixpath.dirname(path) for path in paths}, reverse=True):
            with contextlib.suppress(OSError):  # it holds a file
                os.removedirs(folder)


def _region_in_environment() -> bool:
    return bool(os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))


def _resolve_other(url: str) -> tuple[FileSystem, str]:
    try:
        filesystem, path = FileSystem.from_uri(url)
        return filesystem, path.rstrip("/")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a scheme that pyarrow does not know
        import fsspec

        try:
            filesystem, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"no installed library reads {redact(url)}: {redact(str(error))}") from None
        return PyFileSystem(FSSpecHandler(filesystem)), str(path).rstrip("/")
