import itertools
import math
from typing import Any, get_args

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.io.schemas import (
    MAX_ERROR_CHARS,
    NESTED_INPUT,
    QUARANTINE,
    output_row,
    output_schema,
    output_table,
    quarantine_rows,
    unreadable_row,
)
from corpus_reranker.types import (
    AnswerFlag,
    Belief,
    Candidate,
    QueryStatus,
    RerankRequest,
    RerankResult,
    WindowOutcome,
    WindowStatus,
)
from helpers.outputs import input_row, with_times

EXTRA = [pa.field("dataset", pa.string()), pa.field("day", pa.date32()), pa.field("tags", pa.list_(pa.int16()))]
INPUT = pa.schema([*NESTED_INPUT, *EXTRA])

_outcomes = st.builds(
    WindowOutcome,
    start=st.integers(0, 50),
    end=st.integers(50, 100),
    status=st.sampled_from(get_args(WindowStatus)),
    attempts=st.integers(0, 9),
    prompt_tokens=st.integers(0, 2**40),
    output_tokens=st.integers(0, 2**40),
    latency_seconds=st.floats(0, 1e6),
    finish_reason=st.none() | st.just("stop"),
    shortened_to_tokens=st.none() | st.integers(1, 512),
    reasoning=st.none() | st.text(st.characters(codec=None)),
    error=st.none() | st.text(st.characters(codec=None)),
    prompt=st.none() | st.text(),
    response=st.none() | st.text(st.characters(codec=None)),
    named=st.none() | st.integers(0, 50),
    flags=st.lists(st.sampled_from(get_args(AnswerFlag)), unique=True).map(tuple),
    stability=st.none() | st.floats(),
)


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@st.composite
def reranked(draw: st.DrawFn) -> tuple[dict[str, Any], RerankRequest, RerankResult]:
    scores = draw(st.lists(st.floats(), min_size=1, max_size=12))
    candidates = tuple(Candidate(f"d{n}", "text", score) for n, score in enumerate(scores))
    request = RerankRequest("q", "query", candidates)
    order = tuple(draw(st.permutations(range(len(candidates)))))
    windows = tuple(draw(st.lists(_outcomes, max_size=3)))
    status = draw(st.sampled_from(get_args(QueryStatus)))
    values = st.none() | st.lists(st.none() | st.floats(), min_size=len(scores), max_size=len(scores))
    beliefs = st.lists(st.none() | st.just(Belief(0.5, 0.2)), min_size=len(scores), max_size=len(scores))
    result = RerankResult(
        "q",
        status,
        order,
        windows,
        draw(st.none() | st.text()),
        llm_scores=draw(values),
        beliefs=draw(st.none() | beliefs),
        agreement=draw(values),
        stability=draw(st.none() | st.floats()),
    )
    tags = draw(st.lists(st.integers(-9, 9)))
    row = {**input_row("q"), "dataset": draw(st.none() | st.text()), "day": None, "tags": tags}
    return row, request, result


@settings(max_examples=60)
@given(st.lists(reranked(), min_size=1, max_size=3), st.booleans())
def test_rows_hold_every_candidate_once_and_cast_to_the_schema(
    made: list[tuple[dict[str, Any], RerankRequest, RerankResult]], keep_reasoning: bool
) -> None:
    rows = [with_times(output_row(request, result, keep_reasoning)) for _, request, result in made]
    block = pa.Table.from_pylist([row for row, _, _ in made], INPUT)
    fingerprints = pa.array([f"hash {number}" for number in range(len(made))])
    table = output_table(rows, block, output_schema(INPUT, {"model": "m"}), fingerprints)
    assert table["request_fingerprint"].combine_chunks().equals(fingerprints)
    extra = [field.name for field in EXTRA]
    for row, (source, request, result) in zip(table.to_pylist(), made, strict=True):
        ranking = row["ranking"]
        assert [each["rank"] for each in ranking] == list(range(1, len(request.candidates) + 1))
        assert [each["doc_id"] for each in ranking] == [f"d{position}" for position in result.order]
        assert [each["initial_rank"] for each in ranking] == [position + 1 for position in result.order]
        scores = [each["score"] for each in ranking]
        assert all(higher > lower for higher, lower in itertools.pairwise(scores))
        for each in ranking:
            initial = request.candidates[each["initial_rank"] - 1].score
            assert each["initial_score"] == (None if math.isnan(initial) else initial)
            for name, values in (("llm_score", result.llm_scores), ("agreement", result.agreement)):
                assert each[name] == finite(values[each["initial_rank"] - 1] if values else None)
            belief = result.beliefs[each["initial_rank"] - 1] if result.beliefs else None
            assert (each["belief_mean"], each["belief_sd"]) == ((0.5, 0.2) if belief else (None, None))
        assert row["stability"] == finite(result.stability)
        answers = [(window["named"], tuple(window["flags"]), window["stability"]) for window in row["windows"]]
        assert answers == [(each.named, each.flags, finite(each.stability)) for each in result.windows]
        assert keep_reasoning or all(window["reasoning"] is None for window in row["windows"])
        assert [row[name] for name in ("query", *extra)] == [source[name] for name in ("query", *extra)]


def test_the_output_schema_has_the_inputs_other_columns_and_the_metadata() -> None:
    schema = output_schema(INPUT, {"model": "m"})
    assert schema.names[-4:] == ["query", "dataset", "day", "tags"]
    assert "candidates" not in schema.names
    assert schema.field("tags").type == pa.list_(pa.int16())
    assert schema.metadata == {b"model": b"m"}


def test_columns_that_pass_through_are_never_python_objects() -> None:
    """Nanoseconds and categories would come back changed, or not at all."""
    extra = {
        "at": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
        "time": pa.array([123_456_789], pa.time64("ns")),
        "kind": pa.array(["a"]).dictionary_encode(),
    }
    block = pa.Table.from_pylist([input_row("q")], NESTED_INPUT)
    for name, column in extra.items():
        block = block.append_column(name, column)
    rows = [with_times(unreadable_row(input_row("q"), "no text"))]
    table = output_table(rows, block, output_schema(block.schema, {}))
    assert {name: table[name].combine_chunks() for name in extra} == extra


def test_an_unreadable_row_keeps_the_input_order_of_its_candidates() -> None:
    row = unreadable_row(input_row("q", 3), "no text")
    assert [(each["doc_id"], each["rank"], each["initial_rank"]) for each in row["ranking"]] == [
        ("d0", 1, 1),
        ("d1", 2, 2),
        ("d2", 3, 3),
    ]
    assert (row["status"], row["error"], row["windows"]) == ("failed", "no text", [])
    assert unreadable_row({**input_row("q"), "candidates": None}, "x")["ranking"] == []


def test_an_unreadable_row_keeps_every_doc_id_once() -> None:
    candidates = [{"doc_id": "a", "score": 3}, {"doc_id": None}, {"doc_id": "a"}, None, {"doc_id": "b"}]
    row = unreadable_row({**input_row("q"), "candidates": candidates}, "x")
    ranking = [(each["doc_id"], each["rank"], each["initial_score"]) for each in row["ranking"]]
    assert ranking == [("a", 1, 3.0), ("b", 2, None)]


def test_candidates_without_text_and_duplicates_are_counted() -> None:
    candidates = tuple(Candidate(str(number), text, 1.0) for number, text in enumerate(["x", " ", "y"]))
    request = RerankRequest("q", "query", candidates)
    result = RerankResult("q", "complete", (2, 0, 1), (), pre_ranker_scores=(0.5, math.nan, 0.9))
    row = output_row(request, result, keep_reasoning=False, num_duplicates=4)
    assert (row["blank_candidates"], row["duplicate_candidates"]) == (1, 4)
    assert [each["pre_ranker_score"] for each in row["ranking"]] == [0.9, 0.5, None]


@given(st.lists(_outcomes, max_size=5))
def test_quarantine_holds_the_windows_that_were_not_complete(windows: list[WindowOutcome]) -> None:
    rows = quarantine_rows(RerankResult("q", "degraded", (0,), tuple(windows), None))
    assert [row["start"] for row in rows] == [window.start for window in windows if window.status != "complete"]
    assert pa.Table.from_pylist(rows, QUARANTINE).num_rows == len(rows)


def test_a_long_error_is_shortened_in_the_row() -> None:
    assert len(unreadable_row(input_row("q"), "x" * 10_000)["error"]) < MAX_ERROR_CHARS + 100
