import itertools
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import Place
from storage_desk import input_row, names, write

from pipeline.errors import InputError
from pipeline.storage import nesting
from pipeline.storage.candidates import parse_row
from pipeline.storage.inputs import Input, check_input, read_query_ids
from pipeline.storage.nesting import nested_input
from pipeline.storage.schemas import LONG_INPUT


def long_rows(query_id: str, scores: list[float | None], **columns: Any) -> list[dict[str, Any]]:
    return [
        {"query_id": query_id, "query": f"what is {query_id}?", "doc_id": f"d{n}", "text": f"text {n}", "score": score}
        | columns
        for n, score in enumerate(scores)
    ]


def without(*columns: str) -> pa.Schema:
    return pa.schema([field for field in LONG_INPUT if field.name not in columns])


def nested(place: Place, limit: int | None = None, **bounds: Any) -> Input:
    source = check_input(place.input(**bounds), place.storage)
    return nested_input(source, f"{place.url}/out/_run/candidates", place.input(**bounds), place.storage, limit)


def rows_of(source: Input) -> list[dict[str, Any]]:
    tables = [pq.read_table(path, filesystem=source.filesystem, partitioning=None) for path in source.paths]
    return [row for table in tables for row in table.to_pylist()]


def doc_ids(row: dict[str, Any]) -> list[str]:
    return [each["doc_id"] for each in row["candidates"]]


def test_long_rows_become_lists_sorted_by_score_ties_by_doc_id(place: Place) -> None:
    rows = [*long_rows("q1", [1.0, 5.0, None, 5.0, float("nan"), 7.0]), *long_rows("q2", [0.0])]
    schema = without("rank", "title").append(pa.field("dataset", pa.string()))
    write(place, "in/a.parquet", [row | {"dataset": "demo"} for row in rows], schema)
    first, second = rows_of(nested(place))
    assert doc_ids(first) == ["d5", "d1", "d3", "d0", "d4", "d2"]
    assert (first["query"], first["dataset"], second["query_id"]) == ("what is q1?", "demo", "q2")
    assert parse_row(first, place.input()).candidates[0].text == "text 5"


def test_a_rank_column_decides_where_there_is_one(local_place: Place) -> None:
    ranked = [row | {"rank": rank} for row, rank in zip(long_rows("q", [9.0, 8.0, 7.0]), (3, 1, 2), strict=True)]
    write(local_place, "in/a.parquet", ranked, LONG_INPUT)
    assert doc_ids(rows_of(nested(local_place))[0]) == ["d1", "d2", "d0"]


def test_a_query_may_span_files_and_batches(local_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nesting, "ROWS_PER_BATCH", 3)
    rows = [row for number in range(5) for row in long_rows(f"q{number}", [float(n) for n in range(7)])]
    write(local_place, "in/a.parquet", rows[:17], without("rank"))
    write(local_place, "in/b.parquet", rows[17:], without("rank"))
    found = rows_of(nested(local_place))
    assert [row["query_id"] for row in found] == [f"q{number}" for number in range(5)]
    assert all(doc_ids(row) == [f"d{n}" for n in reversed(range(7))] for row in found)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_rows_in_any_order_give_the_same_queries(local_place: Place, sizes: list[int], seed: int) -> None:
    rows = [row for n, size in enumerate(sizes) for row in long_rows(f"q{n}", [float(n) for n in range(size)])]
    random.Random(seed).shuffle(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nesting, "ROWS_PER_BATCH", 4)
        patch.setattr(nesting, "PARTITION_BYTES", 4000)
        write(local_place, "in/a.parquet", rows, without("rank"))
        found = {row["query_id"]: doc_ids(row) for row in rows_of(nested(local_place))}
    assert found == {f"q{n}": [f"d{i}" for i in reversed(range(size))] for n, size in enumerate(sizes)}


def test_too_many_candidates_are_kept_just_enough_to_be_seen(
    local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nesting, "ROWS_PER_BATCH", 10)
    rows = [*long_rows("big", [float(n) for n in range(100)]), *long_rows("small", [1.0])]
    write(local_place, "in/a.parquet", rows, without("rank"))
    big, small = rows_of(nested(local_place, max_candidates=20))
    assert (len(big["candidates"]), len(small["candidates"])) == (21, 1)


def test_the_copy_is_made_once_and_again_when_the_input_changes(place: Place) -> None:
    write(place, "in/a.parquet", long_rows("q1", [1.0]), without("rank"))
    made = nested(place)
    before = made.filesystem.get_file_info(made.paths[0]).mtime_ns
    again = nested(place)
    assert again.filesystem.get_file_info(again.paths[0]).mtime_ns == before
    write(place, "in/a.parquet", long_rows("q2", [1.0]), without("rank"))
    assert read_query_ids(nested(place)).to_pylist() == ["q2"]


def test_a_torn_copy_is_made_again(local_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nesting, "ROWS_PER_FILE", 1)
    monkeypatch.setattr(nesting, "ROWS_PER_GROUP", 1)
    rows = [row for number in range(4) for row in long_rows(f"q{number}", [1.0, 2.0])]
    write(local_place, "in/a.parquet", rows, without("rank"))
    with monkeypatch.context() as patch:
        files = itertools.count()

        def dying(*arguments: Any, **options: Any) -> pq.ParquetWriter:
            if next(files) == 2:
                raise OSError("disk full")
            return pq.ParquetWriter(*arguments, **options)

        patch.setattr(nesting, "pq", type("pq", (), {"ParquetWriter": dying, "ParquetFile": pq.ParquetFile}))
        with pytest.raises(OSError, match="disk full"):
            nested(local_place)
    assert len([name for name in names(local_place, "out") if name.endswith(".parquet")]) == 2
    assert read_query_ids(nested(local_place)).to_pylist() == ["q0", "q1", "q2", "q3"]


def test_a_nested_input_is_itself_and_its_head_is_a_copy(place: Place) -> None:
    write(place, "in/a.parquet", [input_row("q1"), input_row("q2")])
    write(place, "in/b.parquet", [input_row("q3")])
    assert read_query_ids(nested(place)).to_pylist() == ["q1", "q2", "q3"]
    assert nested(place).paths == check_input(place.input(), place.storage).paths
    assert read_query_ids(nested(place, limit=2)).to_pylist() == ["q1", "q2"]
    assert read_query_ids(nested(place, limit=3)).to_pylist() == ["q1", "q2", "q3"]
    assert rows_of(nested(place, limit=1)) == [input_row("q1")]


def test_long_rows_without_a_query_are_refused(local_place: Place) -> None:
    rows = [*long_rows("q1", [1.0]), {**long_rows("x", [1.0])[0], "query_id": None}]
    write(local_place, "in/a.parquet", rows, without("rank"))
    with pytest.raises(InputError, match=r"a.parquet: query_id of row 1 is null"):
        nested(local_place)
