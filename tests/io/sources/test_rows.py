import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError, RowError
from corpus_reranker.io.schemas import CANDIDATE, NESTED_INPUT, PROBLEM, unreadable_row
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sources.rows import MAX_ID_CHARS, check_batch, check_shown, parse_row
from corpus_reranker.types import RerankRequest, ShownInput
from helpers.fuzzing import examples
from helpers.outputs import input_row

SETTINGS = RowLimits(max_candidates=5, max_row_bytes=10_000)
NULLABLE_INPUT = pa.schema([field.with_nullable(True) for field in NESTED_INPUT])


def with_candidate(**changes: Any) -> dict[str, Any]:
    """A valid row with changes in candidate 1."""
    row = input_row("q")
    row["candidates"][1].update(changes)
    return row


def without_texts(row: dict[str, Any]) -> dict[str, Any]:
    blank = [{**each, "text": text} for each, text in zip(row["candidates"], (None, "", " \n"), strict=True)]
    return {**row, "candidates": blank}


def parse(
    *rows: dict[str, Any], schema: pa.Schema = NULLABLE_INPUT, settings: RowLimits = SETTINGS
) -> list[RerankRequest | str]:
    """Check a batch of rows: for each its request, or its problem."""
    results: list[RerankRequest | str] = []
    for row in check_batch(pa.Table.from_pylist(list(rows), schema), settings).to_pylist():
        try:
            results.append(parse_row(row))
        except RowError as error:
            results.append(str(error))
    return results


def request_of(row: dict[str, Any], schema: pa.Schema = NULLABLE_INPUT) -> RerankRequest:
    (request,) = parse(row, schema=schema)
    assert isinstance(request, RerankRequest), request
    return request


def test_a_valid_row_keeps_its_order() -> None:
    row = input_row("q", 4)
    row["candidates"].reverse()
    row["candidates"][0]["title"] = "a title"
    request = request_of(row)
    assert (request.query_id, request.query) == ("q", "what is q?")
    assert [each.doc_id for each in request.candidates] == ["d3", "d2", "d1", "d0"]
    assert [each.title for each in request.candidates] == ["a title", None, None, None]
    assert request.candidates[3].score == 9.5


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_missing_score_is_nan(score: float | None) -> None:
    assert math.isnan(request_of(with_candidate(score=score)).candidates[1].score)


def test_an_empty_text_is_valid_beside_a_title() -> None:
    assert request_of(with_candidate(text=None, title="t")).candidates[1].text == ""


def test_titles_and_scores_may_be_absent() -> None:
    candidate = pa.struct([field for field in CANDIDATE if field.name in ("doc_id", "text")])
    schema = NULLABLE_INPUT.set(2, pa.field("candidates", pa.list_(candidate)))
    (found,) = request_of(input_row("q", 1), schema).candidates
    assert found.title is None
    assert math.isnan(found.score)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**input_row("q"), "query_id": None}, "query_id is null"),
        ({**input_row("q"), "query_id": ""}, "query_id is empty or blank"),
        ({**input_row("q"), "query_id": "q" * 2000}, f"query_id has more than {MAX_ID_CHARS} characters"),
        ({**input_row("q"), "query": " \n"}, "query is empty or blank"),
        ({**input_row("q"), "query": None}, "query is null"),
        ({**input_row("q"), "candidates": []}, "candidates is empty"),
        ({**input_row("q"), "candidates": None}, "candidates is null"),
        (input_row("q", 6), "6 candidates; input.max_candidates is 5"),
        (with_candidate(doc_id=None), "candidates[1].doc_id is null"),
        (with_candidate(doc_id=""), "candidates[1].doc_id is empty or blank"),
        (with_candidate(doc_id="d" * 2000), f"candidates[1].doc_id has more than {MAX_ID_CHARS} characters"),
        (without_texts(input_row("q")), "no candidate has text"),
        ({**input_row("q"), "candidates": [None]}, "candidates[0] is null"),
    ],
)
def test_a_bad_row_has_a_problem_and_its_neighbors_none(row: dict[str, Any], message: str) -> None:
    before, problem, after = parse(input_row("a", 2), row, input_row("b", 4))
    assert problem == message
    assert isinstance(before, RerankRequest)
    assert isinstance(after, RerankRequest)


_text = st.none() | st.text(max_size=20)
_candidate = st.none() | st.fixed_dictionaries(
    {"doc_id": st.none() | st.text("abc", max_size=1), "text": _text, "title": _text, "score": st.none() | st.floats()}
)
_row = st.fixed_dictionaries(
    {"query_id": _text, "query": _text, "candidates": st.none() | st.lists(_candidate, max_size=8)}
)


@settings(max_examples=examples(300))
@given(st.lists(_row, max_size=4))
def test_every_row_is_a_request_or_has_a_problem(rows: list[dict[str, Any]]) -> None:
    for row, result in zip(rows, parse(*rows), strict=True):
        if isinstance(result, RerankRequest):
            doc_ids = [each.doc_id for each in result.candidates]
            assert doc_ids == list(dict.fromkeys(each["doc_id"] for each in row["candidates"]))
            assert 1 <= len(doc_ids) <= SETTINGS.max_candidates
            assert result.query_id
            assert result.query.strip()
            assert any(candidate.has_text for candidate in result.candidates)
        else:
            output = unreadable_row(row, result)
            assert len(result) < 2000
            assert output["status"] == "failed"
            ranked = [each["doc_id"] for each in output["ranking"]]
            given_ids = [each["doc_id"] for each in row["candidates"] or () if each and each["doc_id"] is not None]
            assert ranked == list(dict.fromkeys(given_ids))


def batch(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), NESTED_INPUT)


def not_utf8(table: pa.Table, column: str) -> pa.Table:
    """The table with an invalid byte in the first value of a string column, as other Parquet writers allow."""
    broken = [
        value if number else value + b"\xff" for number, value in enumerate(table[column].cast("binary").to_pylist())
    ]
    array = pa.array(broken, pa.binary()).view(pa.string())
    return table.set_column(table.schema.get_field_index(column), column, array)


def test_a_valid_batch_is_unchanged() -> None:
    table = batch(input_row("a"), input_row("b"))
    checked = check_batch(table, SETTINGS)
    assert checked.drop_columns([PROBLEM]).equals(table)
    assert checked[PROBLEM].to_pylist() == [None, None]


def test_one_bad_row_does_not_affect_the_others() -> None:
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
    rows = checked.to_pylist()  # raises for text that is not UTF-8
    assert [row["query"] is None for row in rows] == [True, True, True, False]
    for row, source in zip(rows[:3], (input_row("bytes"), large, input_row("many", 9)), strict=True):
        kept = [(each["doc_id"], each["text"], each["score"]) for each in row["candidates"]]
        assert kept == [(each["doc_id"], None, each["score"]) for each in source["candidates"]]
        output = unreadable_row(row, row[PROBLEM])
        assert [(each["doc_id"], each["initial_score"]) for each in output["ranking"]] == [
            (each["doc_id"], each["score"]) for each in source["candidates"]
        ]
    assert parse_row(rows[3]).query_id == "good"
    with pytest.raises(RowError, match="not UTF-8"):
        parse_row(rows[0])


def test_undecodable_text_in_a_list_is_found() -> None:
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


def test_ids_are_kept_row_by_row() -> None:
    rows = [input_row("a", 6), input_row("b", 2), input_row("c", 7)]
    for row in rows:
        for each in row["candidates"]:
            each["doc_id"] = f"{row['query_id']}-{each['doc_id']}"
    checked = check_batch(batch(*rows), SETTINGS)
    ids = [[each["doc_id"] for each in row["candidates"]] for row in checked.to_pylist()]
    assert ids == [[each["doc_id"] for each in row["candidates"]] for row in rows]
    assert checked.schema.field("candidates").type == NESTED_INPUT.field("candidates").type


def test_ids_that_cannot_be_kept_leave_no_candidates() -> None:
    row = input_row("long", 4)
    for each in row["candidates"]:
        each["doc_id"] = each["doc_id"] * 2000
    (checked,) = check_batch(batch(row), SETTINGS).to_pylist()
    assert checked["candidates"] is None
    assert "bytes; input.max_row_bytes is 10000" in checked[PROBLEM]


def test_the_first_of_duplicate_candidates_is_kept_or_the_row_fails() -> None:
    row = with_candidate(doc_id="d0")
    assert [(each.doc_id, each.score) for each in request_of(row).candidates] == [("d0", 9.5), ("d2", 7.5)]
    (problem,) = parse(row, settings=SETTINGS.model_copy(update={"duplicate_doc_ids": "fail"}))
    assert problem == (
        "doc_id 'd0' is in candidates twice, at 0 and 1; keep one of them, or set input.duplicate_doc_ids to keep_best"
    )


def test_a_candidate_without_text_does_not_fail_its_row() -> None:
    assert [each.has_text for each in request_of(with_candidate(text=" ")).candidates] == [True, False, True]


def test_an_empty_batch() -> None:
    assert check_batch(NESTED_INPUT.empty_table(), SETTINGS).num_rows == 0


def test_a_row_without_a_value_that_prompts_show_fails() -> None:
    shown = ShownInput(("task",), scores=True)
    row = input_row("q") | {"task": 7, PROBLEM: None}
    assert parse_row(row, shown).columns == {"task": "7"}
    with pytest.raises(RowError, match="task is null, and the prompt template shows it"):
        parse_row(row | {"task": None}, shown)
    with pytest.raises(RowError, match="candidate 'd1' has no score, and the prompt template shows it"):
        parse_row(with_candidate(score=None) | {"task": "t", PROBLEM: None}, shown)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (NESTED_INPUT, r"shows the column 'task', which the input lacks; it has query_id, query, candidates\. Add"),
        (NESTED_INPUT.append(pa.field("task", pa.list_(pa.string()))), r"'task', which is list<.*>; cast it to string"),
        (
            pa.schema([("candidates", pa.list_(pa.struct([("doc_id", pa.string())]))), ("task", pa.int64())]),
            r"shows \{score\}, and the input has no candidates.score",
        ),
    ],
)
def test_an_input_without_what_prompts_show_is_refused(schema: pa.Schema, message: str) -> None:
    check_shown(NESTED_INPUT.append(pa.field("task", pa.large_string())), ShownInput(("query", "task"), scores=True))
    with pytest.raises(InputError, match=message):
        check_shown(schema, ShownInput(("task",), scores=True))
