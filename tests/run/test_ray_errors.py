"""The reason of a failed run in one line, without the text that Ray adds."""

import itertools

import pytest

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
    ],
)
def test_reason_is_the_innermost_cause_without_advice(error: Exception, expected: str) -> None:
    assert reason(error) == expected


def test_a_start_failure_takes_precedence_over_the_error_of_ray() -> None:
    error = run_error(OSError("actor died"), start_failure="EngineStartError: no such GPU")
    assert str(error) == "no replica could start: EngineStartError: no such GPU"


def test_the_reason_comes_before_the_advice_to_resume() -> None:
    assert str(run_error(OSError("disk full"))).splitlines() == [
        "the run failed: OSError: disk full",
        "run the same command again to resume it",
    ]
