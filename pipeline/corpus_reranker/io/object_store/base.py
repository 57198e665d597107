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
        age_seconds: Returns the seconds from its last write to the read or later, by the clock of the store; 0 if the
            store has no time. May write and delete an empty file.
    """

    body: bytes
    etag: str
    age_seconds: Callable[[], float]


class ObjectStore(Protocol):
    """Control objects of one folder, by name.

    Every method raises OutputError or OSError if the store cannot be reached. The bodies of conditional writes must
    differ between writers: an object with the same body counts as the own write whose response was lost.
    """

    def read(self, name: str) -> StoredObject | None:
        """The object; None if there is none."""
        ...

    def create(self, name: str, body: bytes) -> str | None:
        """Write the object unless it exists, and return its etag; None if it exists."""
        ...

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        """Write the object if its etag is `etag`, and return the new etag; None if it is not."""
        ...

    def write(self, name: str, body: bytes) -> None:
        """Write the object unconditionally."""
        ...

    def delete(self, name: str, etag: str | None = None) -> None:
        """Delete the object if it exists and, given an etag, if it has that etag.

        On stores that ignore or refuse the condition, the object is deleted regardless of its etag.
        """
        ...


def content_etag(body: bytes) -> str:
    """The etag of an object on a store that has no etags: a hash of its content."""
    return hashlib.sha256(body).hexdigest()
