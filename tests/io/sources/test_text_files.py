"""Candidates in CSV, TSV and JSON Lines."""

import codecs
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources import text_content
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.staging import stage
from helpers.outputs import input_row

STORAGE = StorageConfig()

ROWS = [
    {"query_id": "q1", "query": "what?", "doc_id": "1", "text": "one", "score": 1},
    {"query_id": "q1", "query": "what?", "doc_id": "2", "text": 'tw"o, 2', "score": 2.5},
    {"query_id": "q2", "query": "2020-02-29", "doc_id": "1", "text": "one", "score": 1},
]
EXPECTED = {"q1": ("what?", [("2", 'tw"o, 2', 2.5), ("1", "one", 1.0)]), "q2": ("2020-02-29", [("1", "one", 1.0)])}


def rows_of(path: Path, format_name: str, **config: Any) -> list[dict[str, Any]]:
    given = InputConfig(path=str(path), format=format_name, **config)
    files = stage(open_source(given, STORAGE), str(path.parent / f"staged-{path.name}"), given, STORAGE)
    return [row for table in iter_tables(files, 64) for row in table.to_pylist()]


def read(path: Path, format_name: str, **config: Any) -> dict[str, Any]:
    return {
        row["query_id"]: (row["query"], [(hit["doc_id"], hit["text"], hit.get("score")) for hit in row["candidates"]])
        for row in rows_of(path, format_name, **config)
    }


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


CSV = pd.DataFrame(ROWS).to_csv(index=False)
TSV = "query_id\tquery\tdoc_id\ttext\tscore\n" + "".join("\t".join(map(str, row.values())) + "\n" for row in ROWS)


@pytest.mark.parametrize(("name", "text"), [("csv", CSV), ("tsv", TSV), ("jsonl", lines(ROWS))])
def test_formats(tmp_path: Path, name: str, text: str) -> None:
    assert read(write(tmp_path / f"a.{name}", text), name) == EXPECTED
    assert read(write(tmp_path / f"b.{name}.gz", text), name) == EXPECTED
    assert read(write(tmp_path / f"c.{name}", "\ufeff" + text.replace("\n", "\r\n")), name) == EXPECTED
    first, *rest = text.splitlines(keepends=True)
    header = first if name != "jsonl" else ""
    write(tmp_path / "d" / f"1.{name}", first + "".join(rest[:-1]))
    write(tmp_path / "d" / f"2.{name}", header + rest[-1])
    write(tmp_path / "d" / "README.md", "notes")
    assert read(tmp_path / "d", name) == EXPECTED


def test_nested_json_lines(tmp_path: Path) -> None:
    rows = [input_row("q1") | {"day": "2020-02-29"}, input_row("q2", 2) | {"day": None}]
    assert rows_of(write(tmp_path / "a.jsonl", lines(rows)), "jsonl") == rows


def test_names_ids_and_types(tmp_path: Path) -> None:
    rows = [{"qid": 1, "text": "x", "docno": 10 + rank, "body": "b", "rank": rank} for rank in (2, 1)]
    path = write(tmp_path / "a.jsonl", lines(rows))
    columns = {"query_id": "qid", "query": "text", "doc_id": "docno", "text": "body"}
    with pytest.raises(InputError, match=r"set input.cast_ids=true"):
        read(path, "jsonl", columns=columns)
    expected = {"1": ("x", [("11", "b", None), ("12", "b", None)])}
    assert read(path, "jsonl", columns=columns, cast_ids=True) == expected
    path = write(tmp_path / "a.csv", pd.DataFrame(rows).to_csv(index=False))
    assert read(path, "csv", columns=columns) == expected  # text has no types


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "Empty CSV"),
        ("a.csv", "query_id,query,docno\nq,x,d\n", r"the input has 3 problems:(?s:.*)no column 'doc_id'"),
        ("a.csv", CSV.replace("2.5", "high"), "a.csv cannot be read: .*high"),
        ("a.csv", CSV + "q9\n", "a.csv cannot be read: .*Expected 5 columns, got 1"),
        ("a.jsonl", "[1]\n", "line 1 holds no object"),
        ("a.jsonl", "query\n", "a.jsonl: line 1 is not JSON"),
        ("a.jsonl", lines(ROWS) + "{", "a.jsonl: line 4 is not JSON: .*one object per line"),
        ("a.jsonl", lines([ROWS[0], {**ROWS[1], "doc_id": [1]}]), "a.jsonl cannot be read: .*doc_id"),
        ("a.csv", CSV.replace("q2", ""), "query_id of row 2 is empty"),
        ("a.jsonl", lines([*ROWS, {**ROWS[0], "query_id": None}]), "query_id of row 3 is null"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / name, text), name.partition(".")[2])


def test_another_format_in_the_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", CSV)
    write(tmp_path / "in" / "b.tsv", TSV)
    with pytest.raises(InputError, match=r"has 1 file not in CSV format \(.*b.tsv\).*set input.format=tsv"):
        read(tmp_path / "in", "csv")


def test_an_extra_column_of_integers_in_one_file_and_decimals_in_another(tmp_path: Path) -> None:
    for name, year in (("1.jsonl", 1999), ("2.jsonl", 0.5)):
        write(tmp_path / "in" / name, lines([ROWS[0] | {"query_id": name, "year": year}]))
    assert [row["year"] for row in rows_of(tmp_path / "in", "jsonl")] == [1999.0, 0.5]
    write(tmp_path / "in" / "3.jsonl", lines([ROWS[0] | {"year": 2**53 + 1}]))
    with pytest.raises(InputError, match=r"'year' is int64 in .*1.jsonl and double in .*2.jsonl, and a double cannot"):
        rows_of(tmp_path / "in", "jsonl")


def test_a_source_crosses_into_a_subprocess(tmp_path: Path) -> None:
    config = InputConfig(path=str(write(tmp_path / "a.csv", CSV)), format="csv")
    with IsolatedProcess() as isolated:
        source = isolated.run(open_source, config, STORAGE)
        files = isolated.run(stage, source, str(tmp_path / "staged"), config, STORAGE)
    assert files.rows == 2
    assert source.candidate_counts() == {1: 1, 2: 1}


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    one, copy, other = (
        write(tmp_path / name / "a.csv", text) for name, text in (("1", CSV), ("2", CSV), ("3", CSV + "\n"))
    )
    prints = [
        open_source(InputConfig(path=str(path), format="csv"), STORAGE).fingerprint_fields()
        for path in (one, copy, other)
    ]
    assert prints[0] == prints[1] != prints[2]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=25)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), small_blocks=st.booleans())
def test_any_text_is_read_unchanged(tmp_path: Path, texts: list[str], small_blocks: bool) -> None:
    rows = [
        {"query_id": "q", "query": "x", "doc_id": f"d{n}", "text": text, "score": -n} for n, text in enumerate(texts)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_content, "BLOCK_BYTES", 256 if small_blocks else 2**20)
        frame = pd.DataFrame(rows)
        for name, text in (("csv", frame.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)), ("jsonl", lines(rows))):
            (query, hits) = read(write(tmp_path / f"x{abs(hash(text))}.{name}", text), name)["q"]
            assert [hit[1] for hit in hits] == texts
            assert codecs.BOM_UTF8.decode() not in query


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{]", "is not JSON: Expecting property name"),
        ('{"query_id": "q", "query": "\\ud83d"}', "holds a lone surrogate"),
        (f'{{"query_id": "q", "more": {"[" * 1500}{"]" * 1500}}}', "is nested too deeply"),
        (f'{{"query_id": "q"}}{{"more": {"[" * 1500}', "is nested too deeply"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str, end: str
) -> None:
    """The line is behind blank lines and the first block, and lies in two blocks if it is long."""
    monkeypatch.setattr(text_content, "BLOCK_BYTES", 4096)
    path = write(tmp_path / "a.jsonl", lines(ROWS * 20) + f"\n\n{line}{end}")
    with pytest.raises(InputError, match=rf"a\.jsonl: line 63 {message}"):
        rows_of(path, "jsonl")


def test_brackets_in_texts_are_not_nested(tmp_path: Path) -> None:
    text = '[{"\\' * 1500
    path = write(tmp_path / "a.jsonl", lines([ROWS[0] | {"text": text}]))
    assert rows_of(path, "jsonl")[0]["candidates"][0]["text"] == text


def test_the_index_of_a_pandas_csv_is_no_column(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "a.csv", pd.DataFrame(ROWS).to_csv()), "csv")
    assert {name for row in rows for name in row} == {"query_id", "query", "candidates"}


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "run.txt.gz"])
def test_a_collection_is_no_input(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "{}")
    with pytest.raises(InputError, match=r"cannot be read as Parquet .*retrieve or assemble$"):
        open_source(InputConfig(path=str(path)), STORAGE)
