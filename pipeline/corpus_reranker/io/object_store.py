"""Small control objects of an output folder, written atomically and, for the lease, conditionally.

Data goes through pyarrow, which has no conditional writes. Control objects go through s3fs on S3, and through a lock
and a rename on local disk (and NFS). Other filesystems get the same calls without atomicity: two runs that start in the
same second on one output are both started.
"""

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
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
"""Attempts for a response that breaks off in its body."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that was read. `age_seconds` is the time since its last write by the clock of the store."""

    body: bytes
    etag: str
    age_seconds: float


class ObjectStore(Protocol):
    """Control objects of one folder, by name. Every method raises OutputError if the store cannot be reached.

    The bodies of conditional writes must differ between writers: an object with the same body counts as the own write
    whose response was lost.
    """

    def read(self, name: str) -> StoredObject | None:
        """The object; None if there is none."""
        ...

    def create(self, name: str, body: bytes) -> str | None:
        """Write the object unless it exists, and return its etag; None if it exists."""
        ...

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        """Write the object if its etag is `etag`, and return the new etag; None if it is not."""
        ...

    def write(self, name: str, body: bytes) -> None:
        """Write the object, whatever is there."""
        ...

    def delete(self, name: str) -> None:
        """Delete the object if it exists."""
        ...


def open_object_store(folder_url: str, storage: StorageConfig) -> ObjectStore:
    """The control objects of the folder at `folder_url`."""
    if folder_url.partition("://")[0] in S3_SCHEMES:
        resolve(folder_url, storage)  # raises ConfigError for an invalid S3 URL
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
    """A lock makes compare-and-write one step; a rename makes the write atomic."""

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
        """The kernel releases the lock when its holder dies, whatever the cause."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "_lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class FilesystemObjectStore:
    """Any other filesystem: compare, then write. Two writers at the same moment both succeed."""

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
    """S3's conditional writes: If-None-Match and If-Match of PutObject.

    The requests go through the asynchronous client of an s3fs filesystem on fsspec's event loop thread. s3fs's own
    methods return no ETag with the body and take no If-Match.
    """

    def __init__(self, bucket: str, prefix: str, storage: StorageConfig) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._s3 = open_s3fs(storage)

    def read(self, name: str) -> StoredObject | None:
        return self._run("read", name, self._get)

    def create(self, name: str, body: bytes) -> str | None:
        return self._run("write", name, self._put, body, IfNoneMatch="*")

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        return self._run("write", name, self._put, body, IfMatch=etag)

    def write(self, name: str, body: bytes) -> None:
        self._run("write", name, self._put, body)

    def delete(self, name: str) -> None:
        self._run("delete", name, self._delete)

    async def _get(self, client: Any, key: str) -> StoredObject | None:
        try:
            response = await client.get_object(Bucket=self._bucket, Key=key)
        except client.exceptions.NoSuchKey:
            return None
        async with response["Body"] as stream:
            body = await stream.read()
        now = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        modified: datetime = response["LastModified"]
        return StoredObject(body, response["ETag"], (now - modified).total_seconds())

    async def _put(self, client: Any, key: str, body: bytes, **condition: str) -> str | None:
        try:
            response = await client.put_object(Bucket=self._bucket, Key=key, Body=body, **condition)
            return str(response["ETag"])
        except client.exceptions.ClientError as error:
            if not condition or error.response["Error"]["Code"] not in _CONDITION_FAILED:
                raise
        # If the response to this very write was lost, the repeated request fails on the object that it wrote.
        current = await self._get(client, key)
        return current.etag if current and current.body == body else None

    async def _delete(self, client: Any, key: str) -> None:
        await client.delete_object(Bucket=self._bucket, Key=key)

    def _run(self, verb: str, name: str, request: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Run `request(client, key, ...)`, again if the response breaks off in its body, which is not retried below."""
        from aiohttp import ClientError as ConnectionBrokenError
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
        from fsspec.asyn import sync

        key = f"{self._prefix}/{name}" if self._prefix else name
        url = f"s3://{self._bucket}/{key}"

        async def connect_and_run() -> T:
            return await request(await self._s3.set_session(), key, *args, **kwargs)

        with_retries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((ConnectionBrokenError, HTTPClientError, TimeoutError)),
            stop=tenacity.stop_after_attempt(BODY_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        try:
            result: T = with_retries(sync, self._s3.loop, connect_and_run)
        except NoCredentialsError:
            fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, or storage.anonymous"
            raise OutputError(f"cannot {verb} {url}: no AWS credentials found; {fix}") from None
        except (BotoCoreError, ClientError, ConnectionBrokenError, TimeoutError) as error:
            raise OutputError(f"cannot {verb} {url}: {brief(error) or type(error).__name__}") from error
        return result


_CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")
"""409 and NoSuchKey: another write or a deletion came in between (S3 user guide, "Conditional writes")."""


def open_s3fs(storage: StorageConfig) -> Any:
    """An s3fs filesystem of its own, without caches. Sends no request.

    Credentials come from the AWS chain. Without a region in `storage`, the AWS environment or the profile decides.
    """
    import s3fs

    return s3fs.S3FileSystem(
        anon=storage.anonymous,
        endpoint_url=storage.endpoint_url,
        client_kwargs={"region_name": storage.region or _configured_region() or "us-east-1"},
        config_kwargs={
            "connect_timeout": storage.connect_timeout_seconds,
            "read_timeout": storage.request_timeout_seconds,
            "retries": {"total_max_attempts": storage.max_attempts, "mode": "standard"},
            "s3": {"addressing_style": "path" if storage.path_style and storage.endpoint_url else "virtual"},
            # S3-compatible servers refuse newer checksums that they do not know.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _configured_region() -> str | None:
    from botocore.session import Session

    region: str | None = Session().get_config_variable("region")
    return region
