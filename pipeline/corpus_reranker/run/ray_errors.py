"""One-line reasons from the errors that Ray wraps around the original one."""

from ray.exceptions import RayError, RayTaskError

from corpus_reranker.dataflow.task_errors import causes, lines_of
from corpus_reranker.errors import ReplicaDeathsError, RunError, StoreUnavailableError, TransientRunError
from corpus_reranker.io.storage_errors import kind_of_text, kind_without_text

_DIRECT_CAUSE = "\n\nThe above exception was the direct cause"
"""Separates two chained stack traces in the text that Python prints."""

_CREATION = "creation task"
"""Part of Ray's message about an actor whose constructor raised an error."""


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
    if not is_transient_cause(error):
        return RunError(message)
    return TransientRunError(f"{message}\nrun the same command again to resume it")


def is_transient_cause(error: BaseException) -> bool:
    """Whether the cause is outside the job: an unavailable store, a lost or faulty node, or Ray itself."""
    chain = causes(error)
    if any(isinstance(each, StoreUnavailableError) or kind_without_text(each).transient for each in chain):
        return True
    if kind_of_text(reason(error)).transient or ReplicaDeathsError.__name__ in reason(error):
        return True
    raised_by_task = any(isinstance(each, RayTaskError) for each in chain)
    return not raised_by_task and any(isinstance(each, RayError) and _CREATION not in str(each) for each in chain)


def reason(error: BaseException) -> str:
    """The innermost cause in one line, without Ray's stack traces and its advice on retries."""
    innermost = error
    for each in causes(error):
        first_trace, direct_cause, _ = str(each).partition(_DIRECT_CAUSE)
        if direct_cause:  # Ray kept the inner exception as text only
            return first_trace.strip().splitlines()[-1]
        if str(each).strip():  # Ray Data's SystemException, the cause of every error of Ray itself, has no message
            innermost = each
    return f"{type(innermost).__name__}: {lines_of(innermost)[-1]}"
