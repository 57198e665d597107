"""Rows of Parquet with types that are cast, and of files that differ. `tests/test_tried_inputs.py` has more writers."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import NESTED_INPUT, PROBLEM
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.conversion import convert
from corpus_reranker.io.sources.parquet import open_parquet
from corpus_reranker.io.sources.parquet_files import iter_tables, read_query_ids
from corpus_reranker.io.sources.rows import check_batch, check_shown
from corpus_reranker.io.sources.staging import stage
from corpus_reranker.types import ShownInput
from helpers.outputs import input_row
from helpers.tried_inputs.base import HITS, LONG, LONG_ROWS, NESTED_ROW, TEXT, arrays, dictionary, nested

STORAGE = StorageConfig()


def read(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The rows of the input `folder` in nested form, as a run reads them. No row has a problem."""
    config = InputConfig(path=str(folder), **settings)
    files = stage(open_parquet(config, STORAGE), str(folder.parent / "staged"), config, STORAGE)
    table = pa.concat_tables(iter_tables(files, 64))
    assert read_query_ids(files).to_pylist() == table["query_id"].to_pylist()
    assert check_batch(table, config)[PROBLEM].null_count == len(table)
    return [dict(row) for row in table.to_pylist()]


def write(folder: Path, name: str, table: pa.Table, **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / name, **options)


@pytest.mark.parametrize("type_", [pa.int8(), pa.int64(), pa.uint32(), dictionary(pa.int64())], ids=str)
def test_integer_ids_are_cast_if_the_config_says_so(tmp_path: Path, type_: pa.DataType) -> None:
    rows = [row | {"query_id": 7, "doc_id": int(row["doc_id"][1:])} for row in LONG_ROWS]
    indexed = LONG | {"query_id": type_, "doc_id": type_}
    table = pa.table({name: pa.array([row[name] for row in rows]) for name in indexed})
    for name in ("query_id", "doc_id"):
        array = table[name].dictionary_encode() if pa.types.is_dictionary(type_) else table[name].cast(type_)
        table = table.set_column(table.column_names.index(name), name, array)
    write(tmp_path / "in", "a.parquet", table)
    (row,) = read(tmp_path / "in", cast_ids=True)
    assert (row["query_id"], [hit["doc_id"] for hit in row["candidates"]]) == ("7", ["1", "2"])
    with pytest.raises(InputError, match=r"set input\.cast_ids"):
        read(tmp_path / "in")


@pytest.mark.parametrize("type_", [pa.int64(), pa.int32(), pa.float64()], ids=str)
def test_rank_instead_of_score(tmp_path: Path, type_: pa.DataType) -> None:
    rows = [row | {"rank": rank} for rank, row in zip((2, 1), LONG_ROWS, strict=True)]
    types = {name: each for name, each in LONG.items() if name != "score"} | {"rank": type_}
    write(tmp_path / "in", "a.parquet", arrays(rows, types))
    (row,) = read(tmp_path / "in")
    assert row["candidates"] == [{"doc_id": hit["doc_id"], "text": hit["text"]} for hit in reversed(HITS)]


@pytest.mark.parametrize("form", ["nested", "long"])
def test_scores_that_prompts_show_and_the_input_lacks_are_refused(tmp_path: Path, form: str) -> None:
    without_scores = [{**row, "rank": rank} for rank, row in enumerate(LONG_ROWS)]
    long = {name: each for name, each in LONG.items() if name != "score"} | {"rank": pa.int64()}
    table = arrays([NESTED_ROW], nested(score=None)) if form == "nested" else arrays(without_scores, long)
    write(tmp_path / "in", "a.parquet", table)
    config = InputConfig(path=str(tmp_path / "in"))
    files = stage(open_parquet(config, STORAGE), str(tmp_path / "staged"), config, STORAGE)
    with pytest.raises(InputError, match=r"the prompt template shows \{score\}, and the input has no candidates.score"):
        check_shown(files.schema, ShownInput(scores=True))


def test_spark_with_legacy_lists_and_int96(tmp_path: Path) -> None:
    """spark.sql.parquet.writeLegacyFormat names the levels of a list bag and array; old versions store int96."""
    when = pd.Timestamp("2020-02-29 12:00:00.000001").to_pydatetime()
    types = nested() | {"when": pa.timestamp("ns")}
    write(
        tmp_path / "in",
        "part-00000-c000.snappy.parquet",
        arrays([NESTED_ROW | {"when": when}], types),
        store_schema=False,
        use_compliant_nested_type=False,
        use_deprecated_int96_timestamps=True,
    )
    (row,) = read(tmp_path / "in")
    assert (row["candidates"], row["when"].to_pydatetime()) == (HITS, when)


def test_columns_with_other_names(tmp_path: Path) -> None:
    """The names of structs are looked up in the structs: `text` can be the query and a passage at once."""
    hits = [{"docno": hit["doc_id"], "text": hit["text"]} for hit in HITS]
    table = pa.Table.from_pylist([{"qid": "7", "text": "what?", "hits": hits}])
    write(tmp_path / "in", "a.parquet", table)
    columns = {"query_id": "qid", "query": "text", "candidates": "hits", "doc_id": "docno"}
    (row,) = read(tmp_path / "in", columns=columns)
    assert row == NESTED_ROW | {"candidates": [{"doc_id": hit["doc_id"], "text": hit["text"]} for hit in HITS]}
    long = [{"qid": "7", "text": "what?", "docno": hit["doc_id"], "body": hit["text"], "score": 1} for hit in HITS]
    write(tmp_path / "long", "a.parquet", pa.Table.from_pylist(long))
    renamed = {"query_id": "qid", "query": "text", "text": "body", "doc_id": "docno"}
    (row,) = read(tmp_path / "long", columns=renamed)
    assert (row["query"], [hit["text"] for hit in row["candidates"]]) == ("what?", ["one", "two"])
    with pytest.raises(
        InputError, match=r"input.columns.query_id names 'topic', which no file has; the names are body, docno, qid"
    ):
        read(tmp_path / "long", columns=renamed | {"query_id": "topic"})


OTHERS: list[tuple[str, list[tuple[pa.DataType, Any]], list[Any]]] = [
    ("null and typed", [(pa.null(), None), (pa.string(), "x")], [None, "x"]),
    ("int32 and int64", [(pa.int32(), 1), (pa.int64(), 2**60)], [1, 2**60]),
    ("int32 and double", [(pa.int32(), 1), (pa.float64(), 0.5)], [1.0, 0.5]),
    ("int64 and double", [(pa.int64(), -(2**53)), (pa.float64(), 0.5)], [-(2.0**53), 0.5]),
    ("int64, all null, and double", [(pa.int64(), None), (pa.float64(), 0.5)], [None, 0.5]),
    ("string and large_string", [(pa.string(), "a"), (pa.large_string(), "b")], ["a", "b"]),
    ("string and dictionary", [(pa.string(), "a"), (dictionary(), "b")], ["a", "b"]),
    ("lists of null and of text", [(pa.list_(pa.null()), []), (pa.list_(pa.string()), ["x"])], [[], ["x"]]),
    (
        "structs with other fields",
        [(pa.struct([("a", pa.int32())]), {"a": 1}), (pa.struct([("b", pa.string())]), {"b": "x"})],
        [{"a": 1, "b": None}, {"a": None, "b": "x"}],
    ),
]


@pytest.mark.parametrize(("written", "expected"), [each[1:] for each in OTHERS], ids=[each[0] for each in OTHERS])
def test_other_columns_that_differ_between_files(
    tmp_path: Path, written: list[tuple[pa.DataType, Any]], expected: list[Any]
) -> None:
    for number, (type_, value) in enumerate(written):
        table = arrays([NESTED_ROW | {"query_id": str(number), "extra": value}], nested() | {"extra": type_})
        write(tmp_path / "in", f"{number}.parquet", table)
    assert [row["extra"] for row in read(tmp_path / "in")] == expected


def test_a_column_that_only_some_files_have(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.parquet", arrays([NESTED_ROW], nested()))
    write(tmp_path / "in", "b.parquet", arrays([NESTED_ROW | {"query_id": "8", "day": "x"}], nested() | {"day": TEXT}))
    folder = tmp_path / "in" / "dt=2026-11-25"  # a folder's name is no column
    write(folder, "c.parquet", arrays([NESTED_ROW | {"query_id": "9", "dt": "y"}], nested(title=None) | {"dt": TEXT}))
    rows = {row["query_id"]: (row["day"], row["dt"], row["candidates"]) for row in read(tmp_path / "in")}
    assert rows == {"7": (None, None, HITS), "8": ("x", None, HITS), "9": (None, "y", HITS)}


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            [(pa.int64(), 2**53 + 1), (pa.float64(), 0.5)],
            r"'extra' is int64 in .*0.parquet and double in .*1.parquet, and a double cannot hold all of its integers",
        ),
        (
            [(pa.decimal128(30, 2), Decimal("1.25")), (pa.float64(), 0.5)],
            r"'extra' is decimal128\(30, 2\) in .* and double in .*; write it with one type",
        ),
        ([(pa.string(), "a"), (pa.int64(), 1)], r"'extra' is string in .* and int64 in .*; write it with one type"),
        ([(pa.list_(pa.int64()), [1]), (pa.list_(pa.float64()), [0.5])], r"'extra' is list<.*int64> in "),
    ],
)
def test_other_columns_of_no_common_type_are_refused(
    tmp_path: Path, written: list[tuple[pa.DataType, Any]], message: str, statistics: bool
) -> None:
    for number, (type_, value) in enumerate(written):
        table = arrays([NESTED_ROW | {"query_id": str(number), "extra": value}], nested() | {"extra": type_})
        write(tmp_path / "in", f"{number}.parquet", table, write_statistics=statistics)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "in")


def test_a_renamed_title_that_only_some_files_have(tmp_path: Path) -> None:
    hits = [{"doc_id": "d", "text": "x", "headline": "a title"}]
    headed = nested(title=None, score=None, headline=TEXT)
    write(tmp_path / "in", "a.parquet", arrays([NESTED_ROW | {"candidates": hits}], headed))
    write(tmp_path / "in", "b.parquet", arrays([NESTED_ROW | {"query_id": "8"}], nested(title=None)))
    titles = [row["candidates"][0]["title"] for row in read(tmp_path / "in", columns={"title": "headline"})]
    assert titles == ["a title", None]
    with pytest.raises(InputError, match=r"input.columns.title names 'heading', which no file has"):
        read(tmp_path / "in", columns={"title": "heading"})
    with pytest.raises(ValueError, match="did you mean 'title'"):
        InputConfig(path="in", columns={"titel": "headline"})


def test_files_with_and_without_ranks_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.parquet", arrays(LONG_ROWS, LONG | {"rank": pa.int64()}))
    write(tmp_path / "in", "b.parquet", arrays(LONG_ROWS, LONG))
    with pytest.raises(InputError, match=r"b.parquet: no column 'rank', which .*a.parquet has"):
        read(tmp_path / "in")


def test_differing_texts_of_one_query_are_refused(tmp_path: Path) -> None:
    rows = [LONG_ROWS[0], LONG_ROWS[1] | {"query": "what else?"}]
    write(tmp_path / "in", "a.parquet", arrays(rows, LONG))
    with pytest.raises(InputError, match=r"query_id '7' has two texts, 'what\?' and 'what else\?'"):
        read(tmp_path / "in")


LISTS = st.lists(
    st.none()
    | st.lists(
        st.none()
        | st.fixed_dictionaries(
            {"score": st.none() | st.integers(-9, 9), "doc_id": st.none() | st.text("ab", max_size=2)}
        ),
        max_size=4,
    ),
    max_size=6,
)


@given(rows=LISTS, start=st.integers(0, 3), large=st.booleans())
def test_a_conversion_changes_types_and_no_values(rows: Any, start: int, large: bool) -> None:
    list_type = pa.large_list if large else pa.list_
    found = pa.array(rows, list_type(pa.struct([("score", pa.int8()), ("doc_id", pa.large_string())])))[start:]
    wanted = pa.list_(pa.struct([("doc_id", pa.string()), ("title", pa.string()), ("score", pa.float64())]))
    converted = convert(found, wanted)
    converted.validate(full=True)
    assert converted.type == wanted
    complete = [row and [each and {**each, "title": None} for each in row] for row in rows[start:]]
    assert converted.to_pylist() == complete


def test_a_nested_input_is_read_without_a_copy(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.parquet", pa.Table.from_pylist([input_row("q")], NESTED_INPUT))
    assert open_parquet(InputConfig(path=str(tmp_path / "in")), STORAGE).nested_files is not None
