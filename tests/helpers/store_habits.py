"""Habits of stores with the S3 API, and of the gateways before them."""

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
        return f"<Error><Code>{self.code}</Code><Message>a habit of this store</Message></Error>".encode()


@dataclass(frozen=True)
class Habit:
    """How a proxy changes requests, whose header names are in lower case, and responses."""

    refuse: Callable[[str, str, dict[str, str]], ErrorResponse | None] = lambda method, path, headers: None
    change_request: Callable[[dict[str, str]], dict[str, str]] = lambda headers: headers
    change_response: Callable[[str, int, Headers], tuple[int, Headers]] = lambda path, status, headers: (
        status,
        headers,
    )


PLAIN = Habit()


def _ignores(condition: str) -> Habit:
    return Habit(change_request=lambda headers: {k: v for k, v in headers.items() if k != condition})


def _refuses(condition: str, status: int, code: str) -> Habit:
    return Habit(refuse=lambda method, path, headers: ErrorResponse(status, code) if condition in headers else None)


def _lacks(name: str) -> Habit:
    return Habit(
        change_response=lambda path, status, headers: (status, [(k, v) for k, v in headers if k.lower() != name])
    )


def _forbids(applies: Callable[[str, str], bool]) -> Habit:
    return Habit(
        refuse=lambda method, path, headers: ErrorResponse(403, "AccessDenied") if applies(method, path) else None
    )


def _always(status: int, code: str) -> Habit:
    return Habit(refuse=lambda method, path, headers: ErrorResponse(status, code))


def _wants_bare_etags(method: str, path: str, headers: dict[str, str]) -> ErrorResponse | None:
    return ErrorResponse(412, "PreconditionFailed") if '"' in headers.get("if-match", "") else None


def _quote_etag(headers: dict[str, str]) -> dict[str, str]:
    etag = headers.get("if-match")
    return {**headers, "if-match": f'"{etag}"'} if etag else headers


def _refuses_weak_etags(method: str, path: str, headers: dict[str, str]) -> ErrorResponse | None:
    return ErrorResponse(412, "PreconditionFailed") if "W/" in headers.get("if-match", "") else None


def _weaken_etags(path: str, status: int, headers: Headers) -> tuple[int, Headers]:
    if "partNumber=" in path:
        return status, headers
    return status, [(k, f"W/{v}" if k.lower() == "etag" else v) for k, v in headers]


HABITS: dict[str, Habit] = {
    "plain": PLAIN,
    "bare_etag": Habit(refuse=_wants_bare_etags, change_request=_quote_etag),
    "weak_etag": Habit(refuse=_refuses_weak_etags, change_response=_weaken_etags),
    "no_date": _lacks("date"),
    "no_last_modified": _lacks("last-modified"),
    "409_for_412": Habit(change_response=lambda path, status, headers: (409 if status == 412 else status, headers)),
    "ignores_if_match": _ignores("if-match"),
    "ignores_if_none_match": _ignores("if-none-match"),
    "501_to_if_match": _refuses("if-match", 501, "NotImplemented"),
    "501_to_if_none_match": _refuses("if-none-match", 501, "NotImplemented"),
    "409_to_if_match": _refuses("if-match", 409, "ConditionalRequestConflict"),
    "412_to_if_none_match": _refuses("if-none-match", 412, "PreconditionFailed"),
    "no_etag": _lacks("etag"),
    "403_to_put": _forbids(lambda method, path: method == "PUT"),
    "403_to_get": _forbids(lambda method, path: method == "GET" and "list-type" not in path),
    "403_to_head": _forbids(lambda method, path: method == "HEAD"),
    "403_to_list": _forbids(lambda method, path: "list-type" in path),
    "403_to_delete": _forbids(lambda method, path: method == "DELETE"),
    "301_wrong_region": _always(301, "PermanentRedirect"),
    "400_wrong_region": _always(400, "AuthorizationHeaderMalformed"),
    "error_in_200": Habit(
        refuse=lambda method, path, headers: ErrorResponse(200, "InternalError") if method == "PUT" else None
    ),
}
