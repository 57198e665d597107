import itertools
import random
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import LONG_INPUT
from corpus_reranker.io.sources import long_form, staging
from corpus_reranker.io.sources.base import ParquetFiles
from corpus_reranker.io.sources.parquet import open_parquet, read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids
from corpus_reranker.io.sources.rows import parse_row
from corpus_reranker.io.sources.staging import stage
from helpers.locations import Location
from helpers.outputs import file_names, input_row, write


def long_rows(query_id: str, scores: list[float | None], **columns: Any) -> list[dict[str, Any]]:
    return [
        {"query_id": query_id, "query": f"what is {query_id}?", "doc_id": f"d{n}", "text": f"text {n}", "score": score}
        | columns
        for n, score in enumerate(scores)
    ]


def without(*columns: str) -> pa.Schema:
    return pa.schema([field for field in LONG_INPUT if field.name not in columns])


def nested(location: Location, limit: int | None = None, **bounds: Any) -> ParquetFiles:
    source = open_parquet(location.input(**bounds), location.storage)
    return stage(source, f"{location.url}/out/_run/candidates", location.input(**bounds), location.storage, limit)


def rows_of(source: ParquetFiles) -> list[dict[str, Any]]:
    tables = [pq.read_table(path, filesystem=source.filesystem, partitioning=None) for path in source.paths]
    return [row for table in tables for row in table.to_pylist()]


def doc_ids(row: dict[str, Any]) -> list[str]:
    return [each["doc_id"] for each in row["candidates"]]


def test_long_rows_become_lists_sorted_by_score_ties_by_doc_id(location: Location) -> None:
    rows = [*long_rows("q1", [1.0, 5.0, None, 5.0, float("nan"), 7.0]), *long_rows("q2", [0.0])]
    schema = without("rank", "title").append(pa.field("dataset", pa.string()))
    write(location, "in/a.parquet", [row | {"dataset": "demo"} for row in rows], schema)
    first, second = rows_of(nested(location))
    assert doc_ids(first) == ["d5", "d1", "d3", "d0", "d4", "d2"]
    assert (first["query"], first["dataset"], second["query_id"]) == ("what is q1?", "demo", "q2")
    assert parse_row(first).candidates[0].text == "text 5"


def test_a_rank_column_takes_precedence_over_scores(local_location: Location) -> None:
    ranked = [row | {"rank": rank} for row, rank in zip(long_rows("q", [9.0, 8.0, 7.0]), (3, 1, 2), strict=True)]
    write(local_location, "in/a.parquet", ranked, LONG_INPUT)
    assert doc_ids(rows_of(nested(local_location))[0]) == ["d1", "d2", "d0"]


def test_a_query_may_span_files_and_batches(local_location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_form, "ROWS_PER_BATCH", 3)
    rows = [row for number in range(5) for row in long_rows(f"q{number}", [float(n) for n in range(7)])]
    write(local_location, "in/a.parquet", rows[:17], without("rank"))
    write(local_location, "in/b.parquet", rows[17:], without("rank"))
    found = rows_of(nested(local_location))
    assert [row["query_id"] for row in found] == [f"q{number}" for number in range(5)]
    assert all(doc_ids(row) == [f"d{n}" for n in reversed(range(7))] for row in found)


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_rows_in_any_order_give_the_same_queries(local_location: Location, sizes: list[int], seed: int) -> None:
    rows = [row for n, size in enumerate(sizes) for row in long_rows(f"q{n}", [float(n) for n in range(size)])]
    random.Random(seed).shuffle(rows)
    location = Location(f"{local_location.url}/{uuid.uuid4().hex}", local_location.storage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_form, "ROWS_PER_BATCH", 4)
        patch.setattr(long_form, "PARTITION_BYTES", 4000)
        write(location, "in/a.parquet", rows, without("rank"))
        found = {row["query_id"]: doc_ids(row) for row in rows_of(nested(location))}
    assert found == {f"q{n}": [f"d{i}" for i in reversed(range(size))] for n, size in enumerate(sizes)}


@pytest.mark.parametrize("fails", ["write_table", "close"])
def test_a_full_disk_names_the_setting_of_the_folder(
    local_location: Location, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A file that could not be written cannot be closed, either."""

    class FullDisk:
        def __init__(self, *_: Any) -> None: ...

        def write_table(self, _: pa.Table) -> None:
            if fails == "write_table":
                raise OSError("No space left on device")

        def close(self) -> None:
            raise OSError("No space left on device")

    rows = long_rows("q1", [1.0]) + long_rows("q2", [1.0]) + long_rows("q1", [2.0])
    write(local_location, "in/a.parquet", rows, without("rank"))
    monkeypatch.setattr("pyarrow.ipc.new_file", FullDisk)
    with pytest.raises(InputError, match=r"No space left on device.*set TMPDIR to a larger disk"):
        nested(local_location)


def test_too_many_candidates_are_kept_just_enough_to_be_seen(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_form, "ROWS_PER_BATCH", 10)
    rows = [*long_rows("big", [float(n) for n in range(100)]), *long_rows("small", [1.0])]
    write(local_location, "in/a.parquet", rows, without("rank"))
    big, small = rows_of(nested(local_location, max_candidates=20))
    assert (len(big["candidates"]), len(small["candidates"])) == (21, 1)


def test_the_copy_is_made_once_and_again_when_the_input_changes(location: Location) -> None:
    write(location, "in/a.parquet", long_rows("q1", [1.0]), without("rank"))
    made = nested(location)
    before = made.filesystem.get_file_info(made.paths[0]).mtime_ns
    again = nested(location)
    assert again.filesystem.get_file_info(again.paths[0]).mtime_ns == before
    write(location, "in/a.parquet", long_rows("q2", [1.0]), without("rank"))
    assert read_query_ids(nested(location)).to_pylist() == ["q2"]


def test_an_interrupted_copy_is_repeated(local_location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "ROWS_PER_FILE", 1)
    monkeypatch.setattr(staging, "ROWS_PER_GROUP", 1)
    rows = [row for number in range(4) for row in long_rows(f"q{number}", [1.0, 2.0])]
    write(local_location, "in/a.parquet", rows, without("rank"))
    with monkeypatch.context() as patch:
        files = itertools.count()

        def dying(*arguments: Any, **options: Any) -> pq.ParquetWriter:
            if next(files) == 2:
                raise OSError("disk full")
            return pq.ParquetWriter(*arguments, **options)

        patch.setattr(staging, "pq", type("pq", (), {"ParquetWriter": dying, "ParquetFile": pq.ParquetFile}))
        with pytest.raises(OSError, match="disk full"):
            nested(local_location)
    assert [name for name in file_names(local_location, "out") if name.endswith(".parquet")] == []
    write(local_location, "out/_run/candidates/killed/part-000000.parquet", rows, without("rank"))
    assert read_query_ids(nested(local_location)).to_pylist() == ["q0", "q1", "q2", "q3"]


def test_a_nested_input_is_not_copied_unless_it_is_limited(location: Location) -> None:
    write(location, "in/a.parquet", [input_row("q1"), input_row("q2")])
    write(location, "in/b.parquet", [input_row("q3")])
    assert read_query_ids(nested(location)).to_pylist() == ["q1", "q2", "q3"]
    assert nested(location).paths == read_nested_files(location.input(), location.storage).paths
    assert read_query_ids(nested(location, limit=2)).to_pylist() == ["q1", "q2"]
    assert read_query_ids(nested(location, limit=3)).to_pylist() == ["q1", "q2", "q3"]
    assert rows_of(nested(location, limit=1)) == [input_row("q1")]


def test_long_rows_without_a_query_are_refused(local_location: Location) -> None:
    rows = [*long_rows("q1", [1.0]), {**long_rows("x", [1.0])[0], "query_id": None}]
    write(local_location, "in/a.parquet", rows, without("rank"))
    with pytest.raises(InputError, match=r"a.parquet: query_id of row 1 is null"):
        nested(local_location)
