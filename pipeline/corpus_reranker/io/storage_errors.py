"""Errors of stores and file systems in one line, with what to check."""

import contextlib
import errno
import re
from collections.abc import Iterator

from corpus_reranker.errors import OutputError

MAX_CHARS = 300

_ERRNO_HINTS = {
    errno.EACCES: "this user has no permission there",
    errno.EPERM: "this user has no permission there",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOTDIR: "a file is in the way; choose another folder",
    errno.EEXIST: "a file is in the way; choose another folder",
    errno.EISDIR: "a folder is in the way; choose another path",
}

_S3_HINTS = {
    "check storage.region": re.compile(
        r"HTTP status 301|HTTP status 400\).*No response body|\((301|400)\)|PermanentRedirect|PERMANENT_REDIRECT"
        r"|AuthorizationHeaderMalformed|IllegalLocationConstraint|IncorrectEndpoint"
    ),
    "check the permissions of these credentials, and storage.requester_pays if those who read the bucket pay": (
        re.compile(r"ACCESS_DENIED|AccessDenied|HTTP status 403|\(403\)")
    ),
}
"""Texts in the errors of pyarrow (`AWS Error ACCESS_DENIED`) and of botocore (codes). A HEAD response has no code."""


def brief(error: BaseException) -> str:
    """The first line of an error's text, at most MAX_CHARS characters, and what to check if that is known."""
    text = str(error).partition("\n")[0][:MAX_CHARS]
    hint = _hint(error)
    return f"{text}; {hint}" if hint else text


def needs_a_fix(error: BaseException) -> bool:
    """Whether a repetition fails in the same way until somebody changes a path, a permission or the config."""
    return _hint(error) is not None


@contextlib.contextmanager
def output_errors(url: str) -> Iterator[None]:
    """Raise OutputError for an OSError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot use the output {url}: {brief(error)}") from error


def _hint(error: BaseException) -> str | None:
    if (number := getattr(error, "errno", None)) in _ERRNO_HINTS:
        return _ERRNO_HINTS[number]
    text = str(error)
    return next((hint for hint, signs in _S3_HINTS.items() if signs.search(text)), None)
