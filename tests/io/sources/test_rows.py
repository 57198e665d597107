import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import RowError
from corpus_reranker.io.schemas import NESTED_INPUT, PROBLEM, unreadable_row
from corpus_reranker.io.settings import InputConfig
from corpus_reranker.io.sources.rows import MAX_ID_CHARS, check_batch, parse_row
from corpus_reranker.types import RerankRequest
from helpers.fuzzing import examples
from helpers.outputs import input_row

SETTINGS = InputConfig(path="x", max_candidates=5, max_row_bytes=10_000)


def with_candidate(**changes: Any) -> dict[str, Any]:
    """A good row whose candidate 1 is changed."""
    row = input_row("q")
    row["candidates"][1].update(changes)
    return row


def test_a_good_row_keeps_its_order() -> None:
    row = input_row("q", 4, dataset="demo")
    row["candidates"].reverse()
    row["candidates"][0]["title"] = "a title"
    request = parse_row(row, SETTINGS)
    assert (request.query_id, request.query) == ("q", "what is q?")
    assert [each.doc_id for each in request.candidates] == ["d3", "d2", "d1", "d0"]
    assert [each.title for each in request.candidates] == ["a title", None, None, None]
    assert request.candidates[3].score == 9.5


def test_rows_of_numpy_arrays_are_read_too() -> None:
    row = input_row("q")
    row["candidates"] = np.array(row["candidates"], dtype=object)
    row["candidates"][0]["score"] = np.float32(2.5)
    assert parse_row(row, SETTINGS).candidates[0].score == 2.5


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_missing_score_is_nan(score: float | None) -> None:
    assert math.isnan(parse_row(with_candidate(score=score), SETTINGS).candidates[1].score)


def test_an_empty_text_is_fine_where_there_is_a_title() -> None:
    assert parse_row(with_candidate(text=None, title="t"), SETTINGS).candidates[1].text == ""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**input_row("q"), "query_id": None}, "query_id is null"),
        ({**input_row("q"), "query_id": ""}, "query_id is empty or blank"),
        ({**input_row("q"), "query_id": "q" * 2000}, f"query_id has 2000 characters; at most {MAX_ID_CHARS}"),
        ({**input_row("q"), "query": " \n"}, "query is empty or blank"),
        ({**input_row("q"), "query": None}, "query is null"),
        ({**input_row("q"), "candidates": []}, "candidates is empty"),
        ({**input_row("q"), "candidates": None}, "candidates is null"),
        ({"query_id": "q", "query": "x"}, "candidates is null"),
        (input_row("q", 6), r"6 candidates; input.max_candidates is 5"),
        (with_candidate(doc_id="d0"), r"doc_id 'd0' is in candidates twice, at 0 and 1; keep one"),
        (with_candidate(doc_id=None), r"candidates\[1\].doc_id is null"),
        (with_candidate(text=" "), r"candidates\[1\] \(doc_id 'd1'\) has no text; drop it"),
        (with_candidate(text=None), r"candidates\[1\] \(doc_id 'd1'\) has no text; drop it"),
        (with_candidate(score="high"), r"candidates\[1\].score is of type str"),
        (with_candidate(text="x" * 10_000), r"\d+ bytes; input.max_row_bytes is 10000"),
        ({**input_row("q"), "candidates": [None]}, r"candidates\[0\] is null"),
        ({**input_row("q"), PROBLEM: "too bad"}, "too bad"),
    ],
)
def test_bad_rows_say_what_is_wrong(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=f"^{message}"):
        parse_row(row, SETTINGS)


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(10**400)
_anything = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
_text = st.text(max_size=20) | _anything
_candidate = st.fixed_dictionaries({}, optional={"doc_id": _text, "text": _text, "title": _text, "score": _scalars})
_row = st.fixed_dictionaries(
    {}, optional={"query_id": _text, "query": _text, "candidates": st.lists(_candidate | _anything, max_size=8) | _text}
)


@settings(max_examples=examples(300))
@given(_row)
@example({"query_id": "q", "query": "x", "candidates": [{"doc_id": "a", "text": "b", "score": 10**400}]})
def test_any_row_is_a_request_or_a_row_error(row: dict[str, Any]) -> None:
    result = parsed(row)
    if isinstance(result, RowError):
        output = unreadable_row(row, str(result))
        pa.Table.from_pylist([{name: output[name] for name in ("query_id", "status", "ranking", "windows", "error")}])
        assert len(str(result)) < 2000
    else:
        assert 1 <= len(result.candidates) <= SETTINGS.max_candidates
        assert len({each.doc_id for each in result.candidates}) == len(result.candidates)


def parsed(row: dict[str, Any]) -> RerankRequest | RowError:
    try:
        return parse_row(row, SETTINGS)
    except RowError as error:
        return error


def batch(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), NESTED_INPUT)


def not_utf8(table: pa.Table, column: str) -> pa.Table:
    """The table with its string column's bytes broken, as Parquet from elsewhere can hold them."""
    broken = [
        value if number else value + b"\xff" for number, value in enumerate(table[column].cast("binary").to_pylist())
    ]
    array = pa.array(broken, pa.binary()).view(pa.string())
    return table.set_column(table.schema.get_field_index(column), column, array)


def test_a_clean_batch_passes_unchanged() -> None:
    table = batch(input_row("a"), input_row("b"))
    checked = check_batch(table, SETTINGS)
    assert checked.drop_columns([PROBLEM]).equals(table)
    assert checked[PROBLEM].to_pylist() == [None, None]


def test_a_batch_says_of_each_bad_row_what_is_wrong_and_spares_the_others() -> None:
    large = input_row("large")
    large["candidates"][0]["text"] = "x" * 20_000
    table = not_utf8(batch(input_row("bytes"), large, input_row("many", 9), input_row("good")), "query")
    checked = check_batch(table, SETTINGS)
    problems = dict(zip(checked["query_id"].to_pylist(), checked[PROBLEM].to_pylist(), strict=True))
    assert problems["bytes"] == "query holds text that is not UTF-8"
    assert problems["large"] is not None
    assert "bytes; input.max_row_bytes is 10000" in problems["large"]
    assert problems["many"] == "9 candidates; input.max_candidates is 5"
    assert problems["good"] is None
    rows = checked.to_pylist()  # what is not UTF-8 would raise here
    assert [row["candidates"] is None for row in rows] == [True, True, True, False]
    assert parse_row(rows[3], SETTINGS).query_id == "good"
    with pytest.raises(RowError, match="not UTF-8"):
        parse_row(rows[0], SETTINGS)


def test_bad_bytes_deep_in_a_list_are_found() -> None:
    rows = [input_row("a"), input_row("b")]
    table = batch(*rows)
    candidates = table["candidates"].combine_chunks()
    texts = candidates.values.field("text").cast(pa.binary()).to_pylist()
    texts[4] = b"\xc3\x28"
    types = list(candidates.type.value_type)
    columns = [candidates.values.field(field.name) for field in types]
    columns[1] = pa.array(texts, pa.binary()).view(pa.string())
    broken = pa.ListArray.from_arrays(candidates.offsets, pa.StructArray.from_arrays(columns, fields=types))
    checked = check_batch(table.set_column(2, "candidates", broken), SETTINGS)
    assert checked[PROBLEM].to_pylist() == [None, "candidates holds text that is not UTF-8"]


def test_an_empty_batch() -> None:
    assert check_batch(NESTED_INPUT.empty_table(), SETTINGS).num_rows == 0
