"""One-line reasons from the errors that Ray wraps around the original one."""

import re

from ray.exceptions import RayError, RayTaskError

from corpus_reranker.errors import ReplicaDeathsError, RunError, StoreUnavailableError, TransientRunError
from corpus_reranker.io.storage_errors import kind_of_text, kind_without_text

_RETRY_ADVICE = re.compile(r"Failed to .+ after \d+/\d+ attempts")
"""_annotate_exception_with_retry_context of ray/data/_internal/util.py, Ray 2.60."""

_DIRECT_CAUSE = "\n\nThe above exception was the direct cause"
"""Separates two chained stack traces in Python's own text of them."""

_CREATION = "creation task"
"""In Ray's message about an actor whose constructor raised an error."""


def run_error(error: BaseException, engine_failure: str | None = None) -> RunError:
    """Translate the error of a pass into a RunError whose first line has the reason.

    Args:
        error: What Ray Data raised.
        engine_failure: Why no replica can start or answer, if that is known.

    Returns:
        A TransientRunError if another attempt may succeed.
    """
    if engine_failure:
        return RunError(f"no replica could start: {engine_failure}")
    message = f"the run failed: {reason(error)}"
    if not may_pass(error):
        return RunError(message)
    return TransientRunError(f"{message}\nrun the same command again to resume it")


def may_pass(error: BaseException) -> bool:
    """Whether the cause is outside of the job: a store or node that is away or faulty, or Ray itself."""
    chain = causes(error)
    if any(isinstance(each, StoreUnavailableError) or kind_without_text(each).passes for each in chain):
        return True
    if kind_of_text(reason(error)).passes or ReplicaDeathsError.__name__ in reason(error):
        return True
    of_task = any(isinstance(each, RayTaskError) for each in chain)  # the code of a task raised it
    return not of_task and any(isinstance(each, RayError) and _CREATION not in str(each) for each in chain)


def causes(error: BaseException) -> list[BaseException]:
    """The error and its causes, from the outermost to the innermost."""
    chain = [error]
    while cause := getattr(chain[-1], "cause", None) or chain[-1].__cause__:
        chain.append(cause)
    return chain


def reason(error: BaseException) -> str:
    """The innermost cause in one line, without Ray's stack traces and its advice on retries."""
    innermost = error
    for each in causes(error):
        first_trace, direct_cause, _ = str(each).partition(_DIRECT_CAUSE)
        if direct_cause:  # Ray kept the inner exception as text only
            return first_trace.strip().splitlines()[-1]
        if str(each).strip():  # Ray Data's SystemException, the cause of every error of Ray itself, has no message
            innermost = each
    return _last_line(innermost)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    advice = next((number for number, line in enumerate(lines) if _RETRY_ADVICE.match(line)), len(lines))
    message = lines[:advice] or lines or [""]
    return f"{type(error).__name__}: {message[-1]}"
