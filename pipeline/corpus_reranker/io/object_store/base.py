"""The protocol of a store of control objects."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that was read.

    Attributes:
        body: Its content.
        etag: Its version, for `ObjectStore.replace`. Empty if the store has none.
        age_seconds: Returns the seconds between the last write and the read (or the call), by the store's clock; 0 if
            the store has no timestamps. May write and delete an empty file.
    """

    body: bytes
    etag: str
    age_seconds: Callable[[], float]


class ObjectStore(Protocol):
    """Control objects of one folder, by name.

    Every method raises OutputError or OSError if the store cannot be reached. The bodies of conditional writes must
    differ between writers: a writer that finds its own body in the store assumes that its write succeeded.
    """

    def read(self, name: str) -> StoredObject | None:
        """The object; None if there is none."""
        ...

    def create(self, name: str, body: bytes) -> str | None:
        """Write the object and return its etag; None if the object already exists."""
        ...

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        """Replace the object if its etag is `etag`, and return the new etag; None if the etag differs."""
        ...

    def write(self, name: str, body: bytes) -> None:
        """Write the object unconditionally."""
        ...

    def delete(self, name: str, etag: str | None = None) -> None:
        """Delete the object if it exists. With an etag, delete it only if it has that etag.

        On stores that ignore or refuse the condition, the object is deleted regardless of its etag.
        """
        ...


def content_etag(body: bytes) -> str:
    """The etag of an object on a store that has no etags: a hash of its content."""
    return hashlib.sha256(body).hexdigest()
