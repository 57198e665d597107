"""Reasons of failed queries, counted by kind."""

from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.io.sinks.failure_reasons import FailureReasons

ERRORS = st.lists(st.none() | st.sampled_from(["HTTP 401", "no room", "candidate 3 has no text", ""]) | st.text())


def test_errors_that_differ_in_numbers_and_names_are_one_kind() -> None:
    windows = [f"window [{start}, {start + 20}): HTTP 401: key '{start}' is wrong" for start in range(0, 100, 10)]
    reasons = FailureReasons.of([*windows, "candidate 3 has no text", None, "candidate 14 has no text"])
    assert reasons.most_frequent() == {
        "HTTP 401: key '0' is wrong": 10,
        "candidate 3 has no text": 2,
        "no reason given": 1,
    }


@given(ERRORS, ERRORS)
def test_the_counts_of_two_files_add_up(first: list[str | None], second: list[str | None]) -> None:
    parts = FailureReasons.of(first) + FailureReasons.of(second)
    assert parts.counts == FailureReasons.of(first + second).counts
    assert set(parts.examples) == set(parts.counts)
    assert sum(parts.counts.values()) == len(first) + len(second)
