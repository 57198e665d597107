"""Behaviors of stores with the S3 API, and of gateways in front of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Headers: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True)
class ErrorResponse:
    status: int
    code: str

    @property
    def body(self) -> bytes:
        return f"<Error><Code>{self.code}</Code><Message>a behavior of this store</Message></Error>".encode()


@dataclass(frozen=True)
class Request:
    """A request to a proxy.

    Attributes:
        headers: Their names are in lower case.
        number: The number of the request at its proxy, from 1.
        repeated: The proxy has had a request with the same method, path and condition.
    """

    method: str
    path: str
    headers: dict[str, str]
    number: int
    repeated: bool

    @property
    def condition(self) -> str:
        """The value of If-Match or If-None-Match; empty if the request has neither."""
        return self.headers.get("if-match", "") or self.headers.get("if-none-match", "")

    @property
    def is_list(self) -> bool:
        return "list-type" in self.path

    @property
    def is_of_bucket(self) -> bool:
        """Whether the path names a bucket and no key."""
        return "/" not in self.path.strip("/")


@dataclass(frozen=True)
class StoreBehavior:
    """How a proxy changes requests, whose header names are in lower case, and responses.

    Attributes:
        refuse: Returns the response to a request that the server does not get.
        loses_response: Whether the connection is closed after the server has done what the request asks for.
        list_lag_seconds: Maximum time until a LIST shows that a key was written or deleted.
    """

    refuse: Callable[[Request], ErrorResponse | None] = lambda request: None
    change_request: Callable[[dict[str, str]], dict[str, str]] = lambda headers: headers
    change_response: Callable[[Request, int, Headers], tuple[int, Headers]] = lambda request, status, headers: (
        status,
        headers,
    )
    loses_response: Callable[[Request], bool] = lambda request: False
    list_lag_seconds: float = 0.0


PLAIN = StoreBehavior()

STORM_REQUESTS = 60
"""Number of requests of which a storm refuses half."""


def _ignores(condition: str) -> StoreBehavior:
    return StoreBehavior(change_request=lambda headers: {k: v for k, v in headers.items() if k != condition})


def _answers(status: int, code: str, applies: Callable[[Request], bool]) -> StoreBehavior:
    return StoreBehavior(refuse=lambda request: ErrorResponse(status, code) if applies(request) else None)


def _refuses(condition: str, status: int, code: str) -> StoreBehavior:
    return _answers(status, code, lambda request: condition in request.headers)


def _forbids(applies: Callable[[Request], bool]) -> StoreBehavior:
    return _answers(403, "AccessDenied", applies)


def _error_in_200(applies: Callable[[Request], bool]) -> StoreBehavior:
    return _answers(200, "InternalError", applies)


def _lacks(name: str) -> StoreBehavior:
    return StoreBehavior(
        change_response=lambda request, status, headers: (status, [(k, v) for k, v in headers if k.lower() != name])
    )


def _quote_etag(headers: dict[str, str]) -> dict[str, str]:
    etag = headers.get("if-match")
    return {**headers, "if-match": f'"{etag}"'} if etag else headers


def _weaken_etags(request: Request, status: int, headers: Headers) -> tuple[int, Headers]:
    if "partNumber=" in request.path:
        return status, headers
    return status, [(k, f"W/{v}" if k.lower() == "etag" else v) for k, v in headers]


def _has_new_checksum(request: Request) -> bool:
    """Whether a request has a checksum or a trailer that older stores do not know."""
    names = ("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer")
    return any(name.startswith(names) for name in request.headers) or "TRAILER" in request.headers.get(
        "x-amz-content-sha256", ""
    )


def _in_storm(request: Request) -> bool:
    return request.number <= STORM_REQUESTS and random.Random(request.number).random() < 0.5


STORE_BEHAVIORS: dict[str, StoreBehavior] = {
    "plain": PLAIN,
    "bare_etag": StoreBehavior(
        refuse=_answers(412, "PreconditionFailed", lambda request: '"' in request.headers.get("if-match", "")).refuse,
        change_request=_quote_etag,
    ),
    "weak_etag": StoreBehavior(
        refuse=_answers(412, "PreconditionFailed", lambda request: "W/" in request.headers.get("if-match", "")).refuse,
        change_response=_weaken_etags,
    ),
    "no_date": _lacks("date"),
    "no_last_modified": _lacks("last-modified"),
    "no_etag": _lacks("etag"),
    "409_for_412": StoreBehavior(
        change_response=lambda request, status, headers: (409 if status == 412 else status, headers)
    ),
    "409_at_first": _answers(
        409, "ConditionalRequestConflict", lambda request: bool(request.condition) and not request.repeated
    ),
    "412_to_own_retry": StoreBehavior(
        loses_response=lambda request: request.method == "PUT" and bool(request.condition) and not request.repeated
    ),
    "ignores_if_match": _ignores("if-match"),
    "ignores_if_none_match": _ignores("if-none-match"),
    "501_to_if_match": _refuses("if-match", 501, "NotImplemented"),
    "501_to_if_none_match": _refuses("if-none-match", 501, "NotImplemented"),
    "409_to_if_match": _refuses("if-match", 409, "ConditionalRequestConflict"),
    "412_to_if_none_match": _refuses("if-none-match", 412, "PreconditionFailed"),
    "501_to_checksums": _answers(501, "NotImplemented", _has_new_checksum),
    "403_to_put": _forbids(lambda request: request.method == "PUT"),
    "403_to_get": _forbids(lambda request: request.method == "GET" and not request.is_list),
    "403_to_head": _forbids(lambda request: request.method == "HEAD"),
    "403_to_head_bucket": _forbids(lambda request: request.method == "HEAD" and request.is_of_bucket),
    "403_to_list": _forbids(lambda request: request.is_list),
    "403_to_delete": _forbids(lambda request: request.method == "DELETE"),
    "301_wrong_region": _answers(301, "PermanentRedirect", lambda request: True),
    "400_wrong_region": _answers(400, "AuthorizationHeaderMalformed", lambda request: True),
    "error_in_200_to_put": _error_in_200(lambda request: request.method == "PUT"),
    "error_in_200_to_copy": _error_in_200(lambda request: "x-amz-copy-source" in request.headers),
    "error_in_200_to_complete_upload": _error_in_200(
        lambda request: request.method == "POST" and "uploadId=" in request.path
    ),
    "503_storm": _answers(503, "SlowDown", _in_storm),
    "list_lags": StoreBehavior(list_lag_seconds=3.0),
}
