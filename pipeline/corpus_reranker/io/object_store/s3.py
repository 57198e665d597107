"""Control objects on S3 and S3-compatible stores."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import tenacity

from corpus_reranker.errors import OutputError, StoreUnavailableError
from corpus_reranker.io.object_store.base import StoredObject
from corpus_reranker.io.s3_client import open_s3fs, read_options, write_options
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import SET_CREDENTIALS, brief, error_kind, http_status

T = TypeVar("T")

BODY_ATTEMPTS = 3
"""Attempts of a request whose response breaks off in its body."""

_CONFLICT_PAUSES_SECONDS = (0.1, 0.5)
"""Delays before a conditional write is retried on an object that no other process has changed."""

_CONDITION_FAILED = (404, 409, 412)
"""409 and 404: another write or a deletion came in between (S3 user guide, "Conditional writes")."""


class S3ObjectStore:
    """Uses S3's conditional writes: If-None-Match and If-Match of PutObject.

    The requests go through the asynchronous client of an s3fs filesystem, on fsspec's event loop thread. s3fs's own
    methods neither return the ETag with the body nor support If-Match.
    """

    def __init__(self, bucket: str, prefix: str, storage: StorageConfig) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._s3 = open_s3fs(storage)
        self._read_options = read_options(storage)
        self._write_options = {**self._read_options, **write_options(storage)}
        self._accepted_form: Callable[[str], str] | None = None

    def read(self, name: str) -> StoredObject | None:
        return self._run("read", name, self._get)

    def create(self, name: str, body: bytes) -> str | None:
        return self._run("write", name, self._create, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        return self._run("write", name, self._replace, body, etag)

    def write(self, name: str, body: bytes) -> None:
        self._run("write", name, self._put, body)

    def delete(self, name: str, etag: str | None = None) -> None:
        self._run("delete", name, self._delete, etag)

    async def _get(self, client: Any, key: str) -> StoredObject | None:
        from botocore.exceptions import ClientError

        try:
            response = await client.get_object(Bucket=self._bucket, Key=key, **self._read_options)
        except ClientError as error:
            if http_status(error) != 404 or error.response["Error"].get("Code") == "NoSuchBucket":
                raise
            return None
        async with response["Body"] as stream:
            body = await stream.read()
        age_seconds = _age_seconds(response)
        return StoredObject(body, response.get("ETag", ""), lambda: age_seconds)

    async def _create(self, client: Any, key: str, body: bytes) -> str | None:
        for pause_seconds in (*_CONFLICT_PAUSES_SECONDS, 0):
            etag = await self._put_if(client, key, body, "If-None-Match", IfNoneMatch="*")
            if etag is not None:
                return etag
            current = await self._get(client, key)
            if current is not None:
                return _own_etag(current, body)
            await asyncio.sleep(pause_seconds)
        raise OutputError(f"the store refuses If-None-Match for s3://{self._bucket}/{key}, which does not exist")

    async def _replace(self, client: Any, key: str, body: bytes, etag: str) -> str | None:
        """Try If-Match with several forms of the ETag until the store accepts one.

        Ceph RGW compares If-Match with the ETag without quotes, and a proxy may weaken the ETag (RFC 9110, 8.8.3).
        """
        if not etag:
            raise OutputError(f"the store returns no ETag of s3://{self._bucket}/{key}, which If-Match needs")
        for pause_seconds in (*_CONFLICT_PAUSES_SECONDS, 0):
            for form in self._etag_forms():
                new_etag = await self._put_if(client, key, body, "If-Match", IfMatch=form(etag))
                if new_etag is not None:
                    self._accepted_form = form
                    return new_etag
                current = await self._get(client, key)
                if current is None or _bare(current.etag) != _bare(etag):
                    return _own_etag(current, body)
            await asyncio.sleep(pause_seconds)
        raise OutputError(f"the store refuses If-Match with the object's own ETag {etag} for s3://{self._bucket}/{key}")

    def _etag_forms(self) -> list[Callable[[str], str]]:
        return [self._accepted_form] if self._accepted_form else [str, _strong, _bare]

    async def _put_if(self, client: Any, key: str, body: bytes, name: str, **condition: str) -> str | None:
        """Write on a condition, whose HTTP name is `name`, and return the ETag; None if the condition is not met."""
        from botocore.exceptions import ClientError

        try:
            return await self._put(client, key, body, **condition)
        except ClientError as error:
            if http_status(error) in _CONDITION_FAILED and error.response["Error"].get("Code") != "NoSuchBucket":
                return None
            if not error_kind(error).transient:
                raise OutputError(f"cannot write s3://{self._bucket}/{key} with {name}: {brief(error)}") from error
            raise

    async def _put(self, client: Any, key: str, body: bytes, **condition: str) -> str:
        options = {**self._write_options, **condition}
        response = await client.put_object(Bucket=self._bucket, Key=key, Body=body, **options)
        if "ETag" in response:
            return str(response["ETag"])
        stored = await self._get(client, key)  # some stores return no ETag, or an error with status 200
        if stored is None or stored.body != body:
            raise OutputError(f"the store accepted s3://{self._bucket}/{key} but did not write it")
        return stored.etag

    async def _delete(self, client: Any, key: str, etag: str | None) -> None:
        """Send If-Match. AWS honors it; other stores may ignore it, or refuse even the object's own ETag."""
        from botocore.exceptions import ClientError

        request = {"Bucket": self._bucket, "Key": key, **self._read_options}
        try:
            await client.delete_object(**request, **({"IfMatch": etag} if etag else {}))
        except ClientError:
            current = await self._get(client, key)
            if etag is None or (current is not None and _bare(current.etag) == _bare(etag)):
                await client.delete_object(**request)

    def _run(self, verb: str, name: str, request: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Run `request(client, key, ...)`. Retry if the response breaks off in its body, as botocore does not."""
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
            raise OutputError(f"cannot {verb} {url}: no AWS credentials found; {SET_CREDENTIALS}") from None
        except RecursionError:  # botocore asks for the bucket's region, and follows the redirect of that request
            raise OutputError(f"cannot {verb} {url}: status 301 without a region; check storage.region") from None
        except (BotoCoreError, ClientError, ConnectionBrokenError, TimeoutError) as error:
            kind = StoreUnavailableError if error_kind(error).transient else OutputError
            raise kind(f"cannot {verb} {url}: {brief(error) or type(error).__name__}") from error
        return result


def _own_etag(current: StoredObject | None, body: bytes) -> str | None:
    """The ETag if the object is this writer's own, from a write that was retried because its response was lost."""
    return current.etag if current and current.body == body else None


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _strong(etag: str) -> str:
    return f'"{_bare(etag)}"'


def _age_seconds(response: Mapping[str, Any]) -> float:
    """Seconds since the last write by the store's clock; 0 if the response has no date."""
    modified: datetime | None = response.get("LastModified")
    try:
        now = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return (now - modified).total_seconds() if modified else 0.0
    except (KeyError, ValueError, TypeError):
        return 0.0
