"""The reason of a failed pass: an engine that never answers fails again in every attempt."""

from collections import Counter

import pytest

from corpus_reranker.run.passes import engine_failure
from corpus_reranker.run.stats import StatsSnapshot


@pytest.mark.parametrize(
    ("start_failure", "counts", "expected"),
    [
        (None, {}, None),
        ("EngineStartError: no such GPU", {"engine_deaths": 2}, "EngineStartError: no such GPU"),
        (None, {"engine_deaths": 21}, "21 engines died before their first answer; replica host:1: CUDA error"),
        (None, {"engine_deaths": 21, "completions": 1}, None),
    ],
)
def test_engines_that_die_before_their_first_answer_are_named(
    start_failure: str | None, counts: dict[str, int], expected: str | None
) -> None:
    errors = ("q1: timeout", "replica host:1: CUDA error")
    stats = StatsSnapshot(Counter(counts), recent_errors=errors, start_failure=start_failure)
    assert engine_failure(stats) == expected
