"""The error that a task raised, instead of Ray's error around it."""

import pytest
from ray.exceptions import RayTaskError, WorkerCrashedError

from corpus_reranker.dataflow.task_errors import original_errors
from corpus_reranker.errors import InputError

ADVICE = "Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).\nTo change retry attempts, ..."


def test_the_class_and_the_text_of_the_original() -> None:
    """Ray's error has the class of both, and the stack trace of the worker in its text."""
    error = RayTaskError("task", "Traceback ...\n  frame", InputError(f"a.jsonl: not JSON\n{ADVICE}"))
    with pytest.raises(InputError) as caught, original_errors():
        raise error.as_instanceof_cause()
    assert (type(caught.value), str(caught.value)) == (InputError, "a.jsonl: not JSON")


@pytest.mark.parametrize(
    "error", [WorkerCrashedError(), RayTaskError("task", "Traceback ...", KeyError("x")).as_instanceof_cause()]
)
def test_any_other_error_is_raised_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, original_errors():
        raise error
    assert caught.value is error
