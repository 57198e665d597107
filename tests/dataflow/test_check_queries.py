"""The rows of a dataset that `build_reranker` gets: names, types, bad rows."""

import pyarrow as pa
import pytest

from corpus_reranker.dataflow.processor import check_queries
from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import CANDIDATE, NESTED_INPUT, PROBLEM
from corpus_reranker.io.settings import RowSettings

CANDIDATES = [{"docno": 1, "text": "one", "score": 2}, {"docno": 2, "text": "two", "score": 1}]


def test_names_and_types_as_in_files() -> None:
    table = pa.table(
        {
            "tag": [b"x", b"y"],
            "qid": pa.array([7, 8], pa.int32()),
            "query": pa.array(["what?", " "], pa.large_string()),
            "candidates": pa.array([CANDIDATES, CANDIDATES]),
        }
    )
    rows = RowSettings(columns={"query_id": "qid", "doc_id": "docno"}, cast_ids=True)
    checked = check_queries(table, rows)
    candidates = pa.list_(pa.struct([field for field in CANDIDATE if field.name != "title"]))
    assert checked.select(NESTED_INPUT.names).schema.types == [pa.string(), pa.string(), candidates]
    first, second = checked.to_pylist()
    assert (first["query_id"], first["tag"], first[PROBLEM]) == ("7", b"x", None)
    assert [each["doc_id"] for each in first["candidates"]] == ["1", "2"]
    assert second[PROBLEM] == "query is empty or blank"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (RowSettings(columns={"query_id": "qid", "doc_id": "docno"}), "'query_id' is int64.*cast_ids"),
        (RowSettings(cast_ids=True), "no column query_id; it has qid, query, candidates"),
        (RowSettings(columns={"query_id": "qid"}, cast_ids=True), "no field 'candidates.doc_id'.*docno"),
    ],
)
def test_a_type_that_loses_information_is_refused(rows: RowSettings, message: str) -> None:
    table = pa.table({"qid": [7], "query": ["what?"], "candidates": [CANDIDATES]})
    with pytest.raises(InputError, match=message):
        check_queries(table, rows)


def test_a_second_column_of_a_name_is_refused() -> None:
    table = pa.table(
        {"qid": ["7"], "query_id": ["8"], "query": ["what?"], "candidates": [[{"doc_id": "d", "text": "t"}]]}
    )
    with pytest.raises(InputError, match="another column named query_id"):
        check_queries(table, RowSettings(columns={"query_id": "qid"}))


def test_an_empty_block_is_accepted() -> None:
    assert check_queries(NESTED_INPUT.empty_table(), RowSettings()).num_rows == 0
