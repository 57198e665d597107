"""A proxy before a server that injects the faults of networks and busy servers, or behaves like another S3 store."""

import dataclasses
import http.client
import itertools
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit

from helpers.lagging_list import LaggingList
from helpers.store_behaviors import PLAIN, Request, StoreBehavior

Fault: TypeAlias = Literal["refuse", "slow_down", "reset_before", "reset_in_body", "reset_after", "stall", "wrong_etag"]
"""refuse: status 429 with Retry-After. slow_down: status 503. reset_before: the request is not served. reset_in_body:
half of the response arrives. reset_after: the request is served, but the response is lost. stall: the response arrives
too late. wrong_etag: the response has another ETag."""

RequestKind: TypeAlias = Literal["GET", "LIST", "HEAD", "PUT", "DELETE", "conditional"]
"""GET, LIST and HEAD read; PUT and DELETE include their forms as POST; a conditional request has If-Match or
If-None-Match."""

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class FaultProxy(ThreadingHTTPServer):
    """Injects the next of `faults`, in turn, into every `every`-th request.

    Attributes:
        injected: Count of each injected fault.
        unreachable: While set, every connection is closed without a response.
        refused: Requests of this kind are answered with SlowDown.
        requests: Method and path of each request.
    """

    daemon_threads = True

    def __init__(
        self, target: str, faults: Sequence[Fault], behavior: StoreBehavior, every: int, stall_seconds: float
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.behavior = behavior
        self.stall_seconds = stall_seconds
        self.injected: Counter[Fault] = Counter()
        self.closing = threading.Event()
        self.unreachable = threading.Event()
        self.refused: RequestKind | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.lagging_list = LaggingList(self.target, behavior.list_lag_seconds)
        self._count = itertools.count(1)
        self._seen: set[tuple[str, str, str]] = set()
        self._faults = deque(faults)
        self._every = every
        self._lock = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def accept(self, method: str, path: str, headers: dict[str, str]) -> Request:
        """Record a request."""
        with self._lock:
            self.requests.append((method, path, headers))
            request = Request(method, path, headers, len(self.requests), repeated=False)
            key = (method, path, request.condition)
            repeated = key in self._seen
            self._seen.add(key)
        return dataclasses.replace(request, repeated=repeated)

    def next_fault(self) -> Fault | None:
        with self._lock:
            if next(self._count) % self._every or not self._faults:
                return None
            fault = self._faults[0]
            self._faults.rotate(-1)
            self.injected[fault] += 1
            return fault


@contextmanager
def fault_proxy(
    target: str,
    faults: Sequence[Fault] = (),
    *,
    behavior: StoreBehavior = PLAIN,
    every: int = 5,
    stall_seconds: float = 5.0,
) -> Iterator[FaultProxy]:
    """A proxy before the server at `target` that stops when the context exits."""
    proxy = FaultProxy(target, faults, behavior, every, stall_seconds)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def _is_of_kind(kind: RequestKind, command: str, path: str, headers: Mapping[str, str]) -> bool:
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    if kind == "conditional":
        return "if-match" in headers or "if-none-match" in headers
    if command == "POST":
        return kind == ("DELETE" if "delete" in query else "PUT")
    return kind == ("LIST" if command == "GET" and "list-type" in query else command)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        proxy = cast(FaultProxy, self.server)
        if proxy.unreachable.is_set():
            return self._reset()
        fault = proxy.next_fault()
        body = self._read_body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = proxy.accept(self.command, self.path, headers)
        if error := proxy.behavior.refuse(request):
            return self._respond(error.status, [("Content-Type", "application/xml")], error.body, len(error.body))
        if fault == "reset_before":
            return self._reset()
        if fault == "slow_down" or (proxy.refused and _is_of_kind(proxy.refused, self.command, self.path, headers)):
            return self._respond(503, [("Content-Type", "application/xml")], SLOW_DOWN, len(SLOW_DOWN))
        if fault == "refuse":
            return self._respond(429, [("Retry-After", "0.2")], b"{}", 2)
        if fault == "stall":
            proxy.closing.wait(proxy.stall_seconds)
        proxy.lagging_list.before(request)
        status, answer, content, length = self._forward(proxy.target, body, proxy.behavior.change_request(headers))
        status, answer = proxy.behavior.change_response(request, status, answer)
        if lagging := proxy.lagging_list.after(request):
            content, length = lagging, len(lagging)
        if fault == "reset_after" or proxy.behavior.loses_response(request):
            return self._reset()
        if fault == "wrong_etag":
            answer = [(name, '"0123456789abcdef"' if name.lower() == "etag" else value) for name, value in answer]
        if fault == "reset_in_body" and len(content) > 1:
            self._respond(status, answer, content[: len(content) // 2], length)
            return self._reset()
        return self._respond(status, answer, content, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailing headers
            pass
        return body

    def _forward(
        self, target: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes, int]:
        connection = http.client.HTTPConnection(target, timeout=60)
        headers = {name: value for name, value in headers.items() if name not in HOP_HEADERS}
        connection.request(self.command, self.path, body or None, {**headers, "Content-Length": str(len(body))})
        response = connection.getresponse()
        content = response.read()
        end_to_end = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_HEADERS]
        length = int(response.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
        connection.close()
        return response.status, end_to_end, content, length

    def _respond(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the client closed the connection, or _reset did
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        pass
