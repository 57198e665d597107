"""LIST of a store that shows keys some time after they were written or deleted."""

import http.client
import random
import threading
import time
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from helpers.store_behaviors import Request


class LaggingList:
    """Follows the changes of all keys that go through a proxy, and answers LIST with their state of some time ago.

    That time differs from key to key, up to `max_lag_seconds`. Keys that were written before are not listed. Without a
    lag, it does nothing.
    """

    def __init__(self, target: str, max_lag_seconds: float) -> None:
        self._target = target
        self._max_lag_seconds = max_lag_seconds
        self._changes: dict[str, list[tuple[float, str]]] = {}
        self._lock = threading.Lock()

    def before(self, request: Request) -> None:
        """Record the state of a key before its first change."""
        path = _key_path(request)
        if self._max_lag_seconds and path and path not in self._changes:
            entry = self._entry(path)
            with self._lock:
                self._changes.setdefault(path, [(0.0, entry)])

    def after(self, request: Request) -> bytes:
        """Record the state of a key after a change. Returns the content of a response to LIST, else nothing."""
        if not self._max_lag_seconds:
            return b""
        if request.is_list:
            return self._listing(request).encode()
        if path := _key_path(request):
            entry = self._entry(path)
            with self._lock:
                self._changes[path].append((time.monotonic(), entry))
        return b""

    def _entry(self, path: str) -> str:
        """The element of LIST for a key; empty if it does not exist."""
        connection = http.client.HTTPConnection(self._target, timeout=60)
        connection.request("HEAD", path)
        response = connection.getresponse()
        response.read()
        connection.close()
        if response.status != 200:
            return ""
        modified = parsedate_to_datetime(response.headers["Last-Modified"]).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        key = escape(unquote(path).strip("/").partition("/")[2])
        return (
            f"<Contents><Key>{key}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>{escape(response.headers['ETag'])}</ETag><Size>{response.headers['Content-Length']}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _listing(self, request: Request) -> str:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        bucket, prefix, delimiter = unquote(url.path).strip("/"), query.get("prefix", ""), query.get("delimiter", "")
        elements: dict[str, str] = {}
        now = time.monotonic()
        with self._lock:
            for path, changes in sorted(self._changes.items()):
                lag_seconds = self._max_lag_seconds * random.Random(path).random()
                entry = [entry for changed_at, entry in changes if changed_at <= now - lag_seconds][-1]
                key = unquote(path).removeprefix(f"/{bucket}/")
                if not entry or not key.startswith(prefix):
                    continue
                folder, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
                name = f"{prefix}{folder}{delimiter}" if found else key
                elements[name] = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" if found else entry
        shown = list(elements.values())[: int(query.get("max-keys", 1000))]
        return (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{''.join(shown)}</ListBucketResult>"
        )


def _key_path(request: Request) -> str:
    """The path of the key that a request writes or deletes; empty for other requests."""
    path = urlsplit(request.path).path
    changes = request.method in ("PUT", "POST", "DELETE") and "partNumber=" not in request.path
    return path if changes and "/" in path.strip("/") else ""
