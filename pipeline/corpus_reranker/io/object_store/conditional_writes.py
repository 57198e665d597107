"""Checks that a store supports conditional writes, on which leases and commits of tables depend."""

import contextlib
import uuid

from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store.base import ObjectStore

NO_LEASE = "no lease can be held, and two runs could write to one output"


def check_conditional_writes(store: ObjectStore, consequence: str = NO_LEASE) -> None:
    """Try both conditions on a new object, and delete it.

    Args:
        store: The folder that will be written.
        consequence: What can happen on a store that ignores conditions, for the message.

    Raises:
        OutputError: The store ignores or refuses a condition. The message has its HTTP name.
    """
    name = f"_run/conditional-write-check-{uuid.uuid4().hex}"
    try:
        _try_conditions(store, name, consequence)
    except BaseException:
        with contextlib.suppress(OutputError, OSError):  # the original error is the one to report
            store.delete(name)
        raise
    store.delete(name)


def _try_conditions(store: ObjectStore, name: str, consequence: str) -> None:
    first, second, third = (f"{name}: {version}".encode() for version in range(1, 4))
    etag = store.create(name, first)
    if etag is None:
        raise _unusable("refuses a new object with", "If-None-Match", consequence)
    if store.create(name, second) is not None:
        raise _unusable("ignores", "If-None-Match", consequence)
    if store.replace(name, second, etag) is None:
        raise _unusable("refuses the object's own ETag in", "If-Match", consequence)
    if store.replace(name, third, etag) is not None:
        raise _unusable("ignores", "If-Match", consequence)
    stored = store.read(name)
    if stored is None or stored.body != second:
        raise _unusable("does not return what was written with", "If-Match", consequence)


def _unusable(problem: str, condition: str, consequence: str) -> OutputError:
    return OutputError(
        f"the store of the output {problem} the condition {condition} of a write, so {consequence}; use another store"
    )
