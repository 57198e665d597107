"""Classifies a failed request: who is at fault, how long to wait, and the reason, in one line without the key."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import APIError

_RETRIED_STATUSES = frozenset({408, 409, 425, 429})
"""Retried in addition to all 5xx: those of the openai client (openai/_base_client.py: _should_retry), and 425."""

_SETTINGS_STATUSES = frozenset({401, 403, 404})

_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 30.0

_MAX_REASON_CHARS = 500


class Fault(Enum):
    """Who is at fault."""

    SERVER = "The server is busy, failing or unreachable: the same request may succeed later."
    SETTINGS = "Key, URL or model are wrong: no request can succeed."
    REQUEST = "The server refuses this request."


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request.

    Attributes:
        status: HTTP status; None: no response.
        retry_after_seconds: How long the server asks to wait.
    """

    fault: Fault
    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None

    @property
    def is_refusal(self) -> bool:
        """Whether the server is up but accepts no further request now. It has not begun this one."""
        return self.status in (429, 503)


def failure_of(error: "APIError | TimeoutError", url: str, key: str | None, timeout_seconds: float) -> Failure:
    """Classify an error of the openai client at `url`. `key` is removed from the reason."""
    response = getattr(error, "response", None)
    if response is None:
        what = f"no response in {timeout_seconds:g} s" if isinstance(error, TimeoutError) else _innermost(error)
        return Failure(Fault.SERVER, _line(f"{url}: {what}", key))
    status: int = response.status_code
    if status in _RETRIED_STATUSES or status >= 500 or status < 400:  # below 400: a body that is not JSON
        fault = Fault.SERVER
    else:
        fault = Fault.SETTINGS if status in _SETTINGS_STATUSES else Fault.REQUEST
    reason = _line(f"{url}: status {status}: {getattr(error, 'message', error)}", key)
    return Failure(fault, reason, status, retry_after_seconds(response.headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The wait in the header Retry-After, in seconds or as a date, or in OpenAI's retry-after-ms."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(float(milliseconds) / 1000, 0.0)
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def backoff_seconds(failures: int, rng: random.Random) -> float:
    """The wait after `failures` consecutive failures: it doubles up to 30 s, and is multiplied by 0.5 to 1.5."""
    doubled = _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16)
    return min(doubled, _MAX_BACKOFF_SECONDS) * rng.uniform(0.5, 1.5)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _line(reason: str, key: str | None) -> str:
    line = " ".join(reason.split())
    return (line.replace(key, "***") if key else line)[:_MAX_REASON_CHARS]
