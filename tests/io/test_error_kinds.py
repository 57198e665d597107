"""One table decides which errors are transient; its callers differ only where a column here differs."""

import errno
import os
from typing import NamedTuple

import pytest
import tenacity
from aiohttp import ClientPayloadError, ServerDisconnectedError
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, ReadTimeoutError
from ray.exceptions import RayTaskError
from s3fs.errors import translate_boto_error

from corpus_reranker.io.filesystem import retry_transient_errors
from corpus_reranker.io.storage_errors import brief, error_kind, kind_of_text, kind_without_text
from corpus_reranker.run.ray_errors import is_transient_cause


def of_botocore(status: int, code: str) -> ClientError:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


def of_arrow(error: str) -> OSError:
    return OSError(f"When reading key 'k' in bucket 'b': AWS Error {error} during GetObject operation: m")


def of_disk(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Row(NamedTuple):
    """`restarts`: a run starts again after the error. `repeats`: a read is repeated at once. `hint`: what to check."""

    error: Exception
    restarts: bool
    repeats: bool
    hint: str = ""


PERMISSIONS = "check the permissions"

TABLE = [
    Row(of_arrow("SLOW_DOWN"), True, True),
    Row(of_arrow("SERVICE_UNAVAILABLE"), True, True),
    Row(of_arrow("INTERNAL_FAILURE"), True, True),
    Row(of_arrow("REQUEST_TIMEOUT"), True, True),
    Row(of_arrow("UNKNOWN (HTTP status 503)"), True, True),
    Row(of_arrow("UNKNOWN (HTTP status 429)"), True, True),
    Row(of_arrow("NETWORK_CONNECTION"), True, True),
    Row(of_arrow("UNKNOWN (HTTP status 200)"), False, False),
    Row(of_arrow("UNKNOWN (HTTP status 501)"), False, False, "lacks this operation"),
    Row(of_arrow("ACCESS_DENIED"), False, False, PERMISSIONS),
    Row(of_arrow("UNKNOWN (HTTP status 301)"), False, False, "check storage.region"),
    Row(of_arrow("NO_SUCH_BUCKET"), False, False),
    Row(of_botocore(503, "SlowDown"), True, False),
    Row(of_botocore(200, "SlowDown"), True, False),
    Row(of_botocore(200, "InternalError"), True, False),
    Row(of_botocore(429, "TooManyRequests"), True, False),
    Row(of_botocore(400, "RequestTimeout"), True, False),
    Row(of_botocore(501, "NotImplemented"), False, False, "lacks this operation"),
    Row(of_botocore(403, "SignatureDoesNotMatch"), False, False, PERMISSIONS),
    Row(of_botocore(400, "AuthorizationHeaderMalformed"), False, False, "check storage.region"),
    Row(of_botocore(404, "NoSuchBucket"), False, False),
    Row(translate_boto_error(of_botocore(503, "SlowDown")), True, True),
    Row(translate_boto_error(of_botocore(200, "InternalError")), True, True),
    Row(translate_boto_error(of_botocore(501, "NotImplemented")), False, False, "lacks this operation"),
    Row(translate_boto_error(of_botocore(301, "PermanentRedirect")), False, False, "check storage.region"),
    Row(EndpointConnectionError(endpoint_url="u"), True, False),
    Row(ReadTimeoutError(endpoint_url="u"), True, True),
    Row(BotoCoreError(), False, False),
    Row(ServerDisconnectedError(), True, False),
    Row(ClientPayloadError("half a body"), True, False),
    Row(ConnectionResetError("m"), True, True),
    Row(TimeoutError("m"), True, True),
    Row(of_disk(errno.ETIMEDOUT), True, True),
    Row(of_disk(errno.ENOSPC), True, False),
    Row(of_disk(errno.EDQUOT), True, False),
    Row(of_disk(errno.EIO), True, False),
    Row(of_disk(errno.ESTALE), True, False),
    Row(of_disk(errno.EACCES), False, False, "no permission"),
    Row(of_disk(errno.EROFS), False, False, "can be written"),
    Row(of_disk(errno.ENOTDIR), False, False, "a file is in the way"),
    Row(of_disk(errno.EISDIR), False, False, "a folder is in the way"),
    Row(of_disk(errno.ENOENT), False, False),
    Row(ValueError("see TimeoutError"), False, False),
    Row(NotImplementedError("m"), False, False),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{type(row.error).__name__} {row.error}"[:90])
def test_every_caller_uses_the_same_kinds_of_errors(row: Row) -> None:
    kind = error_kind(row.error)
    assert (kind.transient, bool(kind.hint)) == (row.restarts, bool(row.hint))
    assert row.hint in brief(row.error)
    assert is_transient_cause(row.error) is row.restarts
    assert times_read(row.error) == (6 if row.repeats else 1)


def times_read(error: Exception) -> int:
    """How often a read that raises `error` is made."""
    calls = 0

    @retry_transient_errors
    def read() -> None:
        nonlocal calls
        calls += 1
        raise error

    read.retry.wait = tenacity.wait_none()
    with pytest.raises(type(error)):
        read()
    return calls


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{type(row.error).__name__} {row.error}"[:90])
def test_the_kind_of_an_error_follows_from_its_text_alone(row: Row) -> None:
    """Ray keeps only the text of an error that cannot be pickled."""
    assert kind_of_text(f"{type(row.error).__name__}: {row.error}").transient is row.restarts


def test_a_stack_trace_is_not_the_text_of_an_error() -> None:
    error = RayTaskError("f", "except ConnectionError: ...\nKeyError: 'a'", KeyError("a"))
    assert not kind_without_text(error).transient
    assert not is_transient_cause(error)
