"""Agreement of two outputs: measures, queries without a counterpart, thresholds, most changed queries."""

import csv
import io
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.joined_rankings import QueryRanking, RankingPair
from corpus_reranker.evaluation.output_comparison import (
    OutputComparison,
    QueryAgreement,
    compare_rankings,
    csv_header,
    csv_row,
)
from corpus_reranker.evaluation.settings import CompareConfig


def pair(query_id: str, a: str | None, b: str | None) -> RankingPair:
    """A query whose doc ids are the letters of `a` and `b`; None: not in the output."""
    return RankingPair(
        query_id,
        None if a is None else QueryRanking("complete", list(a)),
        None if b is None else QueryRanking("degraded", list(b)),
    )


PAIRS = [
    pair("equal", "abcd", "abcd"),
    pair("reversed", "abcd", "dcba"),
    pair("other", "abcd", "abce"),
    pair("gone", "abcd", None),
    pair("new", None, "abcd"),
]


def compare(pairs: Iterable[RankingPair] = PAIRS, **config: Any) -> OutputComparison:
    return compare_rankings(pairs, CompareConfig(baseline="", **config))


def test_queries_without_a_counterpart_are_counted_and_named() -> None:
    comparison = compare()
    assert comparison.matches == {"same candidates": 2, "other candidates": 1, "only in A": 1, "only in B": 1}
    assert comparison.named == {"other candidates": ["other"], "only in A": ["gone"], "only in B": ["new"]}
    assert (comparison.queries, comparison.compared) == (5, 3)
    assert comparison.statuses == {("complete", "degraded"): 3}


def test_measures_cover_the_queries_for_which_they_are_defined() -> None:
    comparison = compare(cutoff=2)
    assert comparison.tau.values.tolist() == [1, -1]
    assert comparison.overlap.values.tolist() == [1, 0, 1]
    assert comparison.overlap.unchanged == 2
    assert comparison.first_changed == 1
    assert comparison.rbo.quantiles["min"] == comparison.rbo.values[1] == comparison.rbo.values.min()


@pytest.mark.parametrize(
    ("config", "failed"),
    [
        ({}, []),
        ({"min_tau": 0.0, "min_overlap": 0.4, "cutoff": 2}, []),  # tau: (1 - 1) / 5; overlap: (1 + 0 + 1) / 5
        ({"min_tau": 0.01, "min_overlap": 0.4, "cutoff": 2}, ["compare.min_tau"]),
        ({"min_tau": 0.01, "min_overlap": 0.41, "cutoff": 2}, ["compare.min_tau", "compare.min_overlap"]),
    ],
)
def test_a_threshold_counts_a_query_without_a_value_as_0(config: dict[str, Any], failed: list[str]) -> None:
    failures = compare(**config).failures(CompareConfig(baseline="", **config))
    assert len(failures) == len(failed)
    assert all(key in failure for key, failure in zip(failed, failures, strict=True))


@given(st.lists(st.text(alphabet="abcdef", min_size=1, max_size=6).map(lambda text: "".join(dict.fromkeys(text)))))
def test_equal_outputs_reach_every_threshold(rankings: list[str]) -> None:
    pairs = [pair(f"q{number}", each, each) for number, each in enumerate([*rankings, "ab"])]
    comparison = compare(pairs)
    assert comparison.failures(CompareConfig(baseline="", min_tau=1, min_overlap=1)) == []
    assert comparison.most_changed == []
    assert comparison.first_changed == 0


def test_the_most_changed_queries_are_listed_with_ranks_in_the_other_output() -> None:
    first, second = compare(cutoff=2).most_changed
    assert (first.agreement.query_id, second.agreement.query_id) == ("reversed", "other")
    assert first.top_a == (("a", 4), ("b", 3))
    assert first.top_b == (("d", 4), ("c", 3))
    assert compare([PAIRS[2]], cutoff=4).most_changed[0].top_a[-1] == ("d", None)


@given(st.permutations(["abcd", "abdc", "bacd", "dcba", "cbad", "acbd"]), st.integers(0, 7))
def test_the_listed_queries_do_not_depend_on_the_order_of_the_queries(orders: list[str], limit: int) -> None:
    queries = [pair(order, "abcd", order) for order in orders]
    listed = [each.agreement.query_id for each in compare(queries, listed_queries=limit).most_changed]
    everything = [each.agreement.query_id for each in compare(sorted(queries, key=str), listed_queries=9).most_changed]
    assert listed == everything[:limit]
    assert "abcd" not in listed


def test_outputs_of_other_queries_are_refused() -> None:
    with pytest.raises(InputError, match=r"1 are only in A \('gone'\), 1 only in B \('new'\)"):
        compare(PAIRS[3:])


def test_the_csv_has_a_line_for_every_query() -> None:
    recorded: list[QueryAgreement] = []
    compare_rankings(PAIRS, CompareConfig(baseline="", cutoff=2), recorded.append)
    rows = list(csv.DictReader(io.StringIO(csv_header() + "".join(map(csv_row, recorded)))))
    assert [row["query_id"] for row in rows] == [each.query_id for each in PAIRS]
    assert rows[1] | {"rbo": ""} == {
        "query_id": "reversed",
        "match": "same candidates",
        "tau": "-1.000000",
        "rbo": "",
        "overlap": "0.000000",
        "first_changed": "1",
    }
    assert (rows[2]["tau"], rows[3]["rbo"], rows[3]["first_changed"]) == ("", "", "")
