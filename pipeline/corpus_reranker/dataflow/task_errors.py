"""Errors of Ray tasks and datasets, as the errors that the code in them raised."""

import contextlib
from collections.abc import Iterator

from ray.exceptions import RayError

from corpus_reranker.errors import RerankerError


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Raise the RerankerError that a task raised, instead of Ray's error around it."""
    try:
        yield
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, RerankerError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None
