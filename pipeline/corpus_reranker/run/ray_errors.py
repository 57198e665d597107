"""One-line reasons from the errors that Ray wraps around the original one."""

import re

from corpus_reranker.errors import RunError

_RETRY_ADVICE = re.compile(r"Failed to .+ after \d+/\d+ attempts")
"""_annotate_exception_with_retry_context of ray/data/_internal/util.py, Ray 2.60."""

_DIRECT_CAUSE = "\n\nThe above exception was the direct cause"
"""Separates two chained stack traces in Python's own text of them."""


def run_error(error: BaseException, start_failure: str | None = None) -> RunError:
    """Translate the error of a pass into a RunError whose first line has the reason.

    Args:
        error: What Ray Data raised.
        start_failure: Why the last replica that tried to start failed, if none has started since.
    """
    if start_failure:
        return RunError(f"no replica could start: {start_failure}")
    return RunError(f"the run failed: {reason(error)}\nrun the same command again to resume it")


def reason(error: BaseException) -> str:
    """The innermost cause in one line, without Ray's stack traces and its advice on retries."""
    while True:
        first_trace, direct_cause, _ = str(error).partition(_DIRECT_CAUSE)
        if direct_cause:  # Ray kept the inner exception as text only
            return first_trace.strip().splitlines()[-1]
        inner = getattr(error, "cause", None) or error.__cause__
        if inner is None:
            break
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    advice = next((number for number, line in enumerate(lines) if _RETRY_ADVICE.match(line)), len(lines))
    message = lines[:advice] or lines or [""]
    return f"{type(error).__name__}: {message[-1]}"
