"""The reason of a failed run in one line, without the text that Ray adds."""

import errno
import itertools

import pytest
from ray.data.exceptions import SystemException
from ray.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError

from corpus_reranker.errors import ReplicaDeathsError, TransientRunError
from corpus_reranker.run.ray_errors import reason, run_error


def chain(*errors: Exception) -> Exception:
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("no space left"), "OSError: no space left"),
        (chain(RuntimeError("outer"), ValueError("stack\n  frame\nthe cause")), "ValueError: the cause"),
        (
            OSError("PutObject: 503\nFailed to write after 3/3 attempts (total backoff 6.0s).\nTo change retry ..."),
            "OSError: PutObject: 503",
        ),
        (OSError("Failed to write after 3/3 attempts"), "OSError: Failed to write after 3/3 attempts"),
        (
            RuntimeError("ray::f()\n  File x\nKeyError: 'a'\n\nThe above exception was the direct cause "),
            "KeyError: 'a'",
        ),
        (ValueError(""), "ValueError: "),
        (chain(WorkerCrashedError(), SystemException()), f"WorkerCrashedError: {WorkerCrashedError()}"),
    ],
)
def test_reason_is_the_innermost_cause_without_advice(error: Exception, expected: str) -> None:
    assert reason(error) == expected


def test_a_start_failure_takes_precedence_over_the_error_of_ray() -> None:
    error = run_error(OSError("actor died"), engine_failure="EngineStartError: no such GPU")
    assert str(error) == "no replica could start: EngineStartError: no such GPU"


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (
            RuntimeError(
                "ray::f()\nOSError: [Errno 28] No space left on device\n\nThe above exception was the direct cause"
            ),
            True,
        ),
        (OSError("When writing x: AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7"), True),
        (OSError("When writing x: AWS Error ACCESS_DENIED during PutObject operation: denied"), False),
        (OSError("Couldn't deserialize thrift"), False),
        (chain(WorkerCrashedError(), SystemException()), True),
        (RayTaskError("f", "stack", KeyError("a")), False),
        (RayTaskError("f", "stack", ConnectionResetError()), True),
        (ActorDiedError(RayTaskError("f", "stack", KeyError("a"))), False),
        (ActorDiedError(RayTaskError("f", "ReplicaDeathsError: 21 times", ReplicaDeathsError("21 times"))), True),
        (chain(PermissionError(errno.EACCES, "denied"), SystemException()), False),
    ],
)
def test_only_causes_outside_the_job_are_transient(error: Exception, transient: bool) -> None:
    assert isinstance(run_error(error), TransientRunError) is transient
    assert ("run the same command again" in str(run_error(error))) is transient


def test_the_reason_comes_before_the_advice_to_resume() -> None:
    assert str(run_error(ConnectionError("disk full"))).splitlines() == [
        "the run failed: ConnectionError: disk full",
        "run the same command again to resume it",
    ]
