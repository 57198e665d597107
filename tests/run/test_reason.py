"""Why a run broke off, in one line, out of what Ray wraps it in."""

import itertools

import pytest

from corpus_reranker.run.driver import _reason


def chained(*errors: Exception) -> Exception:
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("no space left"), "OSError: no space left"),
        (chained(RuntimeError("outer"), ValueError("stack\n  frame\nthe cause")), "ValueError: the cause"),
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
)  # fmt: skip
def test_the_innermost_cause_without_advice(error: Exception, reason: str) -> None:
    assert _reason(error) == reason
