"""Work on a finished run: it may fail or be interrupted, and the run stays finished."""

import contextlib
from collections.abc import Callable, Iterator

TIMEOUT_SECONDS = 600.0
"""Limit for one piece of work in the subprocess."""


@contextlib.contextmanager
def logging_failure(message: str, log: Callable[[str], None]) -> Iterator[None]:
    """Log `message` and the reason for an error or a signal, instead of raising it."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        log(f"{message}: {type(error).__name__}: {error}")
