"""Query sets in every format give the same table; invalid ones are reported."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.retrieval.queries import QuerySet, read_queries
from corpus_reranker.retrieval.settings import QueriesConfig


def read(path: Path, **settings: Any) -> QuerySet:
    return read_queries(
        QueriesConfig(path=str(path), **settings), lambda url: resolve(url, StorageConfig()), "assemble.queries"
    )


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "query_id\tquery\n", "qid\tquery\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_tsv(tmp_path: Path, header: str, mark: str, line_end: str) -> None:
    text = f"{mark}{header}1\twhat is\nzwei\tüber uns\n".replace("\n", line_end)
    (tmp_path / "q.tsv.gz").write_bytes(gzip.compress(text.encode()))
    expected = [{"query_id": "1", "query": "what is"}, {"query_id": "zwei", "query": "über uns"}]
    assert read(tmp_path / "q.tsv.gz").table.to_pylist() == expected


def test_queries_of_beir(tmp_path: Path) -> None:
    """The keys and types of `metadata` differ between queries, so that no column can hold it (SciFact)."""
    rows = [
        {"_id": "PLAIN-2", "text": "what?", "metadata": {"137": [{"sentences": [4]}]}},
        {"_id": "PLAIN-3", "text": "who?", "metadata": {"137": "none"}},
    ]
    path = write_jsonl(tmp_path / "queries.jsonl", rows)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    expected = [{"query_id": "PLAIN-2", "query": "what?"}, {"query_id": "PLAIN-3", "query": "who?"}]
    assert read(path).table.to_pylist() == expected
    with pytest.raises(InputError, match=r"has no column 'query_id'; it has .*; set --assemble.queries.id_column=_id"):
        read(path, text_column="question")


@pytest.mark.parametrize("judgments", ["q2 0 d1 1\n", "query-id\tcorpus-id\tscore\nq2\td1\t1\n"])
def test_only_judged_queries(tmp_path: Path, judgments: str) -> None:
    """A BEIR folder has the queries of all splits in one file."""
    path = write_jsonl(tmp_path / "queries.jsonl", [{"_id": f"q{n}", "text": "what?"} for n in range(4)])
    (tmp_path / "test.tsv").write_text(judgments)
    assert read(path, qrels=str(tmp_path / "test.tsv")).table["query_id"].to_pylist() == ["q2"]
    (tmp_path / "test.tsv").write_text(judgments.replace("q2", "other"))
    with pytest.raises(InputError, match=r"test.tsv judges no query of .*queries.jsonl.*'other'.*'q0'"):
        read(path, qrels=str(tmp_path / "test.tsv"))


def test_jsonl_columns_are_renamed_or_pass_through(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "q": "a", "reasoned": "a longer", "excluded_ids": ["d1", "d2"], "dataset": "x", "n": 3},
        {"id": 2, "q": "b", "reasoned": None, "excluded_ids": [], "dataset": None, "n": 4},
    ]
    found = read(write_jsonl(tmp_path / "q.jsonl", rows), id_column="id", text_column="q", retrieval_column="reasoned")
    assert found.table.to_pylist() == [
        {"query_id": "1", "query": "a", "retrieval_query": "a longer", **dict(list(rows[0].items())[3:])},
        {"query_id": "2", "query": "b", "retrieval_query": None, **dict(list(rows[1].items())[3:])},
    ]
    assert found.table.schema.field("excluded_ids").type == pa.list_(pa.string())


def test_a_folder_of_parquet_is_one_query_set(tmp_path: Path) -> None:
    for number in range(2):
        pq.write_table(pa.table({"query_id": [number], "query": [f"text {number}"]}), tmp_path / f"{number}.parquet")
    assert read(tmp_path).table["query_id"].to_pylist() == ["0", "1"]


def test_retrieval_texts_may_come_from_another_file(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("1\toriginal one\n2\toriginal two\n")
    (tmp_path / "rewritten.tsv").write_text("2\trewritten two\n1\trewritten one\n3\twithout a query\n")
    found = read(tmp_path / "q.tsv", retrieval_path=str(tmp_path / "rewritten.tsv")).table
    assert found["query"].to_pylist() == ["original one", "original two"]
    assert found["retrieval_query"].to_pylist() == ["rewritten one", "rewritten two"]
    (tmp_path / "rewritten.tsv").write_text("2\trewritten two\n")
    with pytest.raises(InputError, match=r"lacks 1 query of .*; the first is '1'"):
        read(tmp_path / "q.tsv", retrieval_path=str(tmp_path / "rewritten.tsv"))


def test_queries_without_text_are_listed_separately(tmp_path: Path) -> None:
    texts: list[str | None] = [" \t", None, "x"]
    rows = [{"query_id": str(number), "query": text} for number, text in enumerate(texts, 1)]
    found = read(write_jsonl(tmp_path / "q.jsonl", rows))
    assert found.table["query_id"].to_pylist() == ["3"]
    assert found.blank_ids == ("1", "2")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"query_id": "1", "text": "a"}],
            "has no column 'query'; it has 'query_id', 'text'; set --assemble.queries.text",
        ),
        ([{"qid": "1", "query": "a"}], "it has 'qid', 'query'; set --assemble.queries.id_column=qid"),
        (
            [{"query_id": "1", "query": "a"}, {"query_id": "1", "query": "b"}],
            "row 2: query_id '1' also occurs in row 1",
        ),
        ([{"query_id": None, "query": "a"}], "line 1 has no query_id"),
        ([{"query_id": " ", "query": "a"}], "row 1: query_id is empty"),
        ([{"query_id": 7.5, "query": "a"}], "line 1: query_id must be a string, got 7.5"),
        ([{"query_id": "1", "query": "a", "excluded_ids": ["d\ud83d"]}], "line 1: .* holds a lone surrogate"),
        ([{"query_id": "1", "query": "a", "n": 2**70}], "of one type"),
        ([{"query_id": "1", "query": "a", "n": 1}, {"query_id": "2", "query": "a", "n": "b"}], "of one type"),
        ([{"query_id": "1", "query": ["a"]}], "column query must be of type string"),
    ],
)
def test_an_invalid_query_set_is_reported(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write_jsonl(tmp_path / "q.jsonl", rows))


def test_invalid_lines_are_reported(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("1\ta\n2 b\n")
    with pytest.raises(InputError, match=r"q.tsv, line 2: expected `query_id<TAB>query`, got 1 fields: '2 b'"):
        read(tmp_path / "q.tsv")
    (tmp_path / "q.tsv").write_text("1\ta\t2024\n")
    with pytest.raises(InputError, match=r"q.tsv, line 1: expected `query_id<TAB>query`, got 3 fields"):
        read(tmp_path / "q.tsv")
    (tmp_path / "q.jsonl").write_text('{"query_id": "1", "query": "a"}\nnonsense\n')
    with pytest.raises(InputError, match=r"q.jsonl, line 2: not JSON"):
        read(tmp_path / "q.jsonl")


def test_columns_must_differ() -> None:
    with pytest.raises(ValueError, match="must be different columns"):
        QueriesConfig(path="q", id_column="query")
