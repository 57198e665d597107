"""Errors of Ray tasks and datasets, as the errors that the code in them raised."""

import contextlib
import re
from collections.abc import Iterator

from ray.exceptions import RayError

from corpus_reranker.errors import RerankerError

_RETRY_ADVICE = re.compile(r"Failed to .+ after \d+/\d+ attempts")
"""Added by _annotate_exception_with_retry_context of ray/data/_internal/util.py, Ray 2.60."""


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Raise the RerankerError that a task raised, instead of Ray's error around it."""
    try:
        yield
    except RayError as error:
        original = next((each for each in causes(error) if _is_own(each)), None)
        if original is None:
            raise
        raise type(original)("\n".join(lines_of(original))) from None


def causes(error: BaseException) -> list[BaseException]:
    """The error and its causes, from the outermost to the innermost."""
    chain = [error]
    while cause := getattr(chain[-1], "cause", None) or chain[-1].__cause__:
        chain.append(cause)
    return chain


def lines_of(error: BaseException) -> list[str]:
    """The lines of an error's text that are not blank, without Ray Data's advice on retries at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    advice = next((number for number, line in enumerate(lines) if _RETRY_ADVICE.match(line)), len(lines))
    return lines[:advice] or lines or [""]


def _is_own(error: BaseException) -> bool:
    """Whether the error is a RerankerError, and not Ray's wrapper of one, which is an instance of both classes."""
    return isinstance(error, RerankerError) and not isinstance(error, RayError)
