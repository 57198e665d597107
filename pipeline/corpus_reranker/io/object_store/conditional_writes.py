"""The check that a store honors the conditions of a write, on which the lease depends."""

import contextlib
import uuid

from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store.base import ObjectStore


def check_conditional_writes(store: ObjectStore) -> None:
    """Try both conditions on a new object, and delete it.

    Raises:
        OutputError: The store ignores or refuses a condition, which the message names as in HTTP.
    """
    name = f"_run/conditional-write-check-{uuid.uuid4().hex}"
    try:
        _try_conditions(store, name)
    except BaseException:
        with contextlib.suppress(OutputError, OSError):  # the original error is the one to report
            store.delete(name)
        raise
    store.delete(name)


def _try_conditions(store: ObjectStore, name: str) -> None:
    first, second, third = (f"{name}: {version}".encode() for version in range(1, 4))
    etag = store.create(name, first)
    if etag is None:
        raise _unusable("refuses a new object with", "If-None-Match")
    if store.create(name, second) is not None:
        raise _unusable("ignores", "If-None-Match")
    if store.replace(name, second, etag) is None:
        raise _unusable("refuses the object's own ETag in", "If-Match")
    if store.replace(name, third, etag) is not None:
        raise _unusable("ignores", "If-Match")
    stored = store.read(name)
    if stored is None or stored.body != second:
        raise _unusable("does not return what was written with", "If-Match")


def _unusable(problem: str, condition: str) -> OutputError:
    return OutputError(
        f"the store of the output {problem} the condition {condition} of a write, so no lease can be held and two"
        " runs could write one output; use another store"
    )
