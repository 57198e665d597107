"""Small control objects of an output folder, written whole or not at all, and conditionally where it matters.

Data goes through pyarrow, which has no conditional writes. These few small objects go through botocore on S3, and
through a lock and a rename on local disk (and NFS). Other filesystems get the same calls without atomicity: there
two runs that start in the same second on one output are not told apart.
"""

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import tenacity
from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import S3_SCHEMES, brief, join, resolve
from corpus_reranker.io.settings import StorageConfig

T = TypeVar("T")

BODY_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was read. `age_seconds` since it was last written, by the clock of the store."""

    body: bytes
    etag: str
    age_seconds: float


class ObjectStore(Protocol):
    """Control objects of one folder, by name. Raises OutputError where the store cannot be reached.

    Bodies of conditional writes must tell their writers apart: what lies there with the same body is taken for one's
    own write, of which the first answer was lost.
    """

    def read(self, name: str) -> StoredObject | None: ...

    def create(self, name: str, body: bytes) -> str | None:
        """The new object's etag; None if there is one already."""
        ...

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        """The new etag; None if the object is no longer the one of `etag`."""
        ...

    def write(self, name: str, body: bytes) -> None: ...

    def delete(self, name: str) -> None:
        """No error where there is none."""
        ...


def open_object_store(folder_url: str, storage: StorageConfig) -> ObjectStore:
    """The control objects of the folder at `folder_url`."""
    if folder_url.partition("://")[0] in S3_SCHEMES:
        resolve(folder_url, storage)  # refuses what is no S3 URL
        bucket, _, prefix = folder_url.partition("://")[2].rstrip("/").partition("/")
        return S3ObjectStore(bucket, prefix, storage)
    filesystem, folder = resolve(folder_url, storage)
    return (
        LocalObjectStore(Path(folder))
        if isinstance(filesystem, LocalFileSystem)
        else FilesystemObjectStore(filesystem, folder)
    )


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class LocalObjectStore:
    """A lock held for each change makes compare-and-write one step; a rename makes the write whole or nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> StoredObject | None:
        path = self._folder / name
        try:
            body = path.read_bytes()
            age_seconds = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return None
        return StoredObject(body, _etag(body), age_seconds)

    def create(self, name: str, body: bytes) -> str | None:
        with self._locked():
            return None if (self._folder / name).exists() else self._put(name, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        with self._locked():
            current = self.read(name)
            return self._put(name, body) if current and current.etag == etag else None

    def write(self, name: str, body: bytes) -> None:
        self._put(name, body)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def _put(self, name: str, body: bytes) -> str:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"_tmp-{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return _etag(body)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The kernel lets go of the lock when its holder dies, whatever kills it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "_lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class FilesystemObjectStore:
    """Any other filesystem: compare, then write. Two writers in the same moment are not told apart."""

    def __init__(self, filesystem: FileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder

    def read(self, name: str) -> StoredObject | None:
        info = self._filesystem.get_file_info(join(self._folder, name))
        if info.type != FileType.File:
            return None
        with self._filesystem.open_input_stream(info.path) as stream:
            body = stream.read()
        return StoredObject(body, _etag(body), time.time() - info.mtime_ns / 1e9 if info.mtime_ns else 0.0)

    def create(self, name: str, body: bytes) -> str | None:
        return None if self.read(name) else self._put(name, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        current = self.read(name)
        return self._put(name, body) if current and current.etag == etag else None

    def write(self, name: str, body: bytes) -> None:
        self._put(name, body)

    def delete(self, name: str) -> None:
        if self.read(name):
            self._filesystem.delete_file(join(self._folder, name))

    def _put(self, name: str, body: bytes) -> str:
        path = join(self._folder, name)
        self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with self._filesystem.open_output_stream(path) as stream:
            stream.write(body)
        return _etag(body)


class S3ObjectStore:
    """S3's conditional writes: If-None-Match and If-Match of PutObject."""

    def __init__(self, bucket: str, prefix: str, storage: StorageConfig) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._client = _s3_client(storage)

    def read(self, name: str) -> StoredObject | None:
        return self._do("read", name, lambda: self._get(name))

    def create(self, name: str, body: bytes) -> str | None:
        return self._do("write", name, lambda: self._put(name, body, IfNoneMatch="*"))

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        return self._do("write", name, lambda: self._put(name, body, IfMatch=etag))

    def write(self, name: str, body: bytes) -> None:
        self._do("write", name, lambda: self._put(name, body))

    def delete(self, name: str) -> None:
        self._do("delete", name, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(name)))

    def _get(self, name: str) -> StoredObject | None:
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
        except self._client.exceptions.NoSuchKey:
            return None
        body = response["Body"].read()
        now = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        modified: datetime = response["LastModified"]
        return StoredObject(body, response["ETag"], (now - modified).total_seconds())

    def _put(self, name: str, body: bytes, **condition: str) -> str | None:
        from botocore.exceptions import ClientError

        try:
            response = self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=body, **condition)
            return str(response["ETag"])
        except ClientError as error:
            if not condition or error.response["Error"]["Code"] not in _CONDITION_FAILED:
                raise
        # The first answer to our own write may have been lost, and its repetition found that write in its way.
        current = self._get(name)
        return current.etag if current and current.body == body else None

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _do(self, verb: str, name: str, operation: Callable[[], T]) -> T:
        """Do it, again where an answer breaks off in its body, which botocore does not try again."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
        from urllib3.exceptions import HTTPError

        with_retries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((HTTPError, HTTPClientError)),
            stop=tenacity.stop_after_attempt(BODY_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        url = f"s3://{self._bucket}/{self._key(name)}"
        try:
            return with_retries(operation)
        except NoCredentialsError:
            fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, or storage.anonymous"
            raise OutputError(f"cannot {verb} {url}: no AWS credentials found; {fix}") from None
        except (BotoCoreError, ClientError, HTTPError) as error:
            raise OutputError(f"cannot {verb} {url}: {brief(error)}") from error


_CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")
"""409 and NoSuchKey: another writer, or a deletion, came in between (S3 user guide, "Conditional writes")."""


def _s3_client(storage: StorageConfig) -> Any:
    import botocore.config
    import botocore.session

    config = botocore.config.Config(
        connect_timeout=storage.connect_timeout_seconds,
        read_timeout=storage.request_timeout_seconds,
        retries={"total_max_attempts": storage.max_attempts, "mode": "standard"},
        s3={"addressing_style": "path" if storage.path_style and storage.endpoint_url else "virtual"},
        signature_version=botocore.UNSIGNED if storage.anonymous else None,
        # Newer checksums are refused by S3-compatible servers that do not know them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = botocore.session.Session()
    region = storage.region or session.get_config_variable("region") or "us-east-1"
    return session.create_client("s3", region_name=region, endpoint_url=storage.endpoint_url, config=config)
