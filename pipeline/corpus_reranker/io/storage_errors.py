"""Kinds of storage errors: which are transient, and what to check after the others."""

import contextlib
import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from corpus_reranker.errors import OutputError

MAX_CHARS = 300

SET_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, or storage.anonymous"

_NEVER = re.compile(r"(?!)")

_NUMBER = re.compile(r"\[Errno (\d+)\]")
"""The error number in the text of an OSError."""

_CAUSE = re.compile(r"\s*(?:\x1b\[[0-9;]*m)*↳(?:\x1b\[[0-9;]*m)*\s*")
"""The arrow before each cause in an error text of deltalake."""

_RUST_FILE = re.compile(r"(,? location:|,)? \S+\.rs:\d+:\d+")
"""The source location at the end of an error text of Lance."""

_S3_ERROR = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Errors with the same remedy.

    Attributes:
        transient: The same request can succeed later, without a change.
        within_seconds: It can succeed within seconds, so a read is retried.
        hint: What to check after an error that is not transient.
        errnos: Error numbers of file systems, and those to which s3fs maps S3 error codes (s3fs/errors.py).
        statuses: HTTP statuses.
        text: Matches class names or error texts, such as those of pyarrow (`AWS Error SLOW_DOWN`,
            arrow/filesystem/s3_internal.h) and of botocore (`(SlowDown)`).
    """

    transient: bool = False
    within_seconds: bool = False
    hint: str = ""
    errnos: frozenset[int] = frozenset()
    statuses: frozenset[int] = frozenset()
    text: re.Pattern[str] = _NEVER


_KINDS = (
    ErrorKind(
        hint="check storage.region",
        errnos=frozenset({errno.EREMCHG}),
        statuses=frozenset({301}),
        text=re.compile(
            r"HTTP status 301|HTTP status 400\).*No response body|\((301|400)\)|PermanentRedirect|PERMANENT_REDIRECT"
            r"|AuthorizationHeaderMalformed|IllegalLocationConstraint|IncorrectEndpoint"
        ),
    ),
    ErrorKind(
        hint=SET_CREDENTIALS,
        text=re.compile(r"no credentials found|CredentialsNotLoaded|NoCredentialsError"),
    ),
    ErrorKind(
        hint="check the permissions of these credentials, and storage.requester_pays if the bucket is requester-pays",
        statuses=frozenset({403}),
        text=re.compile(r"ACCESS_DENIED|AccessDenied|HTTP status 403|\(403\)|403 Forbidden"),
    ),
    ErrorKind(
        hint="the store lacks this operation; use another store",
        errnos=frozenset({errno.ENOSYS}),
        statuses=frozenset({501}),
        text=re.compile(r"\bNotImplemented\b|HTTP status 501"),
    ),
    ErrorKind(hint="this user has no permission there", errnos=frozenset({errno.EACCES, errno.EPERM})),
    ErrorKind(hint="choose a folder that can be written", errnos=frozenset({errno.EROFS})),
    ErrorKind(hint="a file is in the way; choose another folder", errnos=frozenset({errno.ENOTDIR, errno.EEXIST})),
    ErrorKind(hint="a folder is in the way; choose another path", errnos=frozenset({errno.EISDIR})),
    ErrorKind(  # the store is overloaded or has an internal error
        transient=True,
        within_seconds=True,
        errnos=frozenset({errno.EBUSY, errno.EREMOTEIO}),
        statuses=frozenset({429, *range(500, 600)} - {501}),
        text=re.compile(
            r"AWS Error (SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|THROTTLING|REQUEST_EXPIRED)"
            r"|HTTP status (429|5\d\d)"
            r"|(\(|ExceptionName: )"
            r"(SlowDown|ServiceUnavailable|InternalError|RequestTimeout|Throttling|TooManyRequests)\b"
        ),
    ),
    ErrorKind(  # no connection, or no answer
        transient=True,
        within_seconds=True,
        errnos=frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}),
        text=re.compile(
            r"AWS Error NETWORK_CONNECTION|curlCode|Connection (refused|reset)|timed out"
            r"|Connection\w*Error:|TimeoutError:|(HTTPClient|ClientPayload|ServerDisconnected)Error:",
            re.IGNORECASE,
        ),
    ),
    ErrorKind(  # a disk is full or fails; space may be freed within minutes, or another node may have space
        transient=True,
        errnos=frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}),
        text=re.compile(r"No space left on device|quota exceeded|Input/output error|Stale file handle", re.IGNORECASE),
    ),
)
"""An error number or HTTP status decides the kind. Otherwise the first kind whose text matches does."""

_UNKNOWN = ErrorKind()


def brief(error: BaseException) -> str:
    """The first line of an error's text, at most MAX_CHARS characters, and a hint on what to check, if there is one."""
    return _with_hint(str(error).partition("\n")[0], error_kind(error))


def brief_of_library(error: BaseException) -> str:
    """As `brief`, for an error of a table's library: the reason is in the last cause."""
    text = str(error) or type(error).__name__
    if s3_error := _S3_ERROR.search(text):
        reason = f"{s3_error[2]} ({s3_error[1]})"
    else:
        first, *causes = _CAUSE.split(text)
        reason = f"{first}: {causes[-1]}" if causes else first
    return _with_hint(" ".join(_RUST_FILE.sub("", reason).split()), error_kind(error))


def _with_hint(reason: str, kind: ErrorKind) -> str:
    reason = reason[:MAX_CHARS].rstrip(" .")
    return f"{reason}; {kind.hint}" if kind.hint else reason


def error_kind(error: BaseException) -> ErrorKind:
    """The kind of an error. An unknown error is not transient and has no hint."""
    return _kind_by_numbers(error) or kind_of_text(f"{_class_names(error)}: {error}")


def kind_without_text(error: BaseException) -> ErrorKind:
    """As `error_kind`, but ignores the text of the error, because Ray includes stack traces of other errors there."""
    return _kind_by_numbers(error) or kind_of_text(f"{_class_names(error)}:")


def kind_of_text(text: str) -> ErrorKind:
    """As `error_kind`, from the class name and the text of an error."""
    if number := _NUMBER.search(text):
        return _kind_of_number(int(number[1]), 0) or _UNKNOWN
    return next((kind for kind in _KINDS if kind.text.search(text)), _UNKNOWN)


def http_status(error: BaseException) -> int:
    """The HTTP status in a ClientError of botocore; 0 for other errors."""
    response: Any = getattr(error, "response", None)
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) if isinstance(response, dict) else 0


@contextlib.contextmanager
def output_errors(url: str) -> Iterator[None]:
    """Raise OutputError for an OSError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot use the output {url}: {brief(error)}") from error


def _kind_by_numbers(error: BaseException) -> ErrorKind | None:
    return _kind_of_number(getattr(error, "errno", None), http_status(error))


def _kind_of_number(number: int | None, status: int) -> ErrorKind | None:
    return next((kind for kind in _KINDS if number in kind.errnos or status in kind.statuses), None)


def _class_names(error: BaseException) -> str:
    """Names of the error's class and its bases. Names are compared, so that botocore and aiohttp are not imported."""
    return ": ".join(each.__name__ for each in type(error).__mro__)
