import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.schemas import LONG_INPUT, NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import ParquetFiles
from corpus_reranker.io.sources.parquet import open_parquet, read_nested_files
from corpus_reranker.io.sources.parquet_files import iter_tables, read_query_ids
from helpers.locations import Location
from helpers.outputs import input_row, write

CANDIDATES_TYPE = NESTED_INPUT.field("candidates").type


def nested_files(location: Location, name: str = "in") -> ParquetFiles:
    return read_nested_files(location.input(name), location.storage)


def test_reads_the_files_of_a_folder_sorted_by_path(location: Location) -> None:
    write(location, "in/b.parquet", [input_row("q3")])
    write(location, "in/a.parquet", [input_row("q1"), input_row("q2")])
    write(location, "in/day=1/c.parquet", [input_row("q4")])
    write(location, "in/_temporary/x.parquet", [input_row("q1")])
    write(location, "in/.hidden.parquet", [input_row("q1")])
    files = nested_files(location)
    assert [path.rpartition("/in/")[2] for path in files.paths] == ["a.parquet", "b.parquet", "day=1/c.parquet"]
    assert files.rows == 4
    assert read_query_ids(files).to_pylist() == ["q1", "q2", "q3", "q4"]
    assert read_query_ids(nested_files(location, "in/a.parquet")).to_pylist() == ["q1", "q2"]


def test_a_nested_source_describes_its_files(local_location: Location) -> None:
    write(local_location, "in/a.parquet", [input_row("q1", 3), input_row("q2", 5)])
    write(local_location, "in/b.parquet", [input_row("q3", 3)])
    source = open_parquet(local_location.input(), local_location.storage)
    assert source.form == "nested"
    assert source.nested_files == nested_files(local_location)
    assert source.describe() == "2 Parquet files, 3 queries (nested form)"
    assert source.candidate_counts() == {3: 2, 5: 1}
    assert [row["query_id"] for table in source.tables() for row in table.to_pylist()] == ["q1", "q2", "q3"]


def test_the_fingerprint_depends_on_the_content_and_not_on_the_path(local_location: Location) -> None:
    for name in ("in/a.parquet", "copy/of/a.parquet"):
        write(local_location, name, [input_row("q1")])
    write(local_location, "other/a.parquet", [input_row("q9")])
    original, copy, other = (
        open_parquet(local_location.input(name), local_location.storage).fingerprint_fields()
        for name in ("in", "copy", "other")
    )
    assert original == copy
    renamed = local_location.input("in", columns={"title": "text", "text": "title"})
    assert open_parquet(renamed, local_location.storage).fingerprint_fields() != original
    assert original["digest"] != other["digest"]
    assert original["rows"] == 1


def with_type(name: str, type_: pa.DataType) -> pa.Schema:
    return NESTED_INPUT.set(NESTED_INPUT.get_field_index(name), pa.field(name, type_))


def struct_without(name: str) -> pa.DataType:
    return pa.list_(pa.struct([field for field in CANDIDATES_TYPE.value_type if field.name != name]))


BAD_SCHEMAS = [
    (
        NESTED_INPUT.remove(1),
        r"no column 'query', expected string \(nested form\); name it with input.columns={query: COLUMN}; it has",
    ),
    (NESTED_INPUT.remove(2), r"no column 'candidates', expected list of structs with doc_id, text"),
    (LONG_INPUT.remove(3), r"no column 'text', expected string \(long form\)"),
    (LONG_INPUT.remove(6).remove(5), r"no column 'score' or 'rank'"),
    (
        LONG_INPUT.set(2, pa.field("docno", pa.string())),
        r"no column 'doc_id', expected string \(long form\); name it with input.columns={doc_id: docno}",
    ),
    (with_type("query_id", pa.int64()), r"'query_id' is int64, expected string; set input.cast_ids=true"),
    (with_type("query_id", pa.float64()), r"expected string; .*df\['query_id'\].astype\('Int64'\).astype\('str'\)"),
    (with_type("candidates", pa.string()), r"'candidates' is string, expected list of structs .*; decode the JSON"),
    (with_type("candidates", pa.list_(pa.string())), r"'candidates' is list<.*; write a list of structs"),
    (
        with_type("candidates", struct_without("doc_id")),
        r"no field 'candidates.doc_id', expected string; name it with input.columns={doc_id: COLUMN}; the structs have",
    ),
    (LONG_INPUT.set(5, pa.field("score", pa.string())), r"'score' is string, expected double; .*astype\('float'\)"),
    (NESTED_INPUT.append(pa.field("ranking", pa.string())), r"'ranking' has the name of an output column; rename it"),
    (NESTED_INPUT.append(pa.field("m", pa.map_(pa.string(), pa.string()))), r"'m' is map<.*cast or drop it"),
    (NESTED_INPUT.append(pa.field("u", pa.list_(pa.uint64()))), r"'u' is uint64"),
    (NESTED_INPUT.append(pa.field("query", pa.string())), r"two columns named 'query'"),
]


@pytest.mark.parametrize(("schema", "message"), BAD_SCHEMAS)
def test_a_wrong_schema_is_an_error_that_names_file_column_and_fix(
    local_location: Location, schema: pa.Schema, message: str
) -> None:
    path = write(local_location, "in/a.parquet", schema.empty_table())
    with pytest.raises(InputError, match=message) as error:
        open_parquet(local_location.input(), local_location.storage)
    assert path in str(error.value)


def test_all_problems_are_named_at_once(local_location: Location) -> None:
    wrong = with_type("query_id", pa.int64()).remove(1)
    for name in ("a", "b", "c"):
        write(local_location, f"in/{name}.parquet", wrong.empty_table())
    write(local_location, "in/d.parquet", [], with_type("query_id", pa.date32()))
    with pytest.raises(InputError) as error:
        open_parquet(local_location.input(), local_location.storage)
    header, *problems = str(error.value).splitlines()
    assert header == "the input has 3 problems:"
    assert "a.parquet and 2 other files: column 'query_id' is int64" in problems[0]
    assert "a.parquet and 2 other files: no column 'query'" in problems[1]
    assert "d.parquet: column 'query_id' is date32" in problems[2]


def test_a_missing_input_is_named(location: Location) -> None:
    with pytest.raises(InputError, match=r"there is no file or folder .*in"):
        open_parquet(location.input(), location.storage)
    filesystem, path = resolve(f"{location.url}/in/notes.txt", location.storage)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    filesystem.open_output_stream(path).close()
    with pytest.raises(InputError, match=r"there is no Parquet file in .*in"):
        open_parquet(location.input(), location.storage)


@pytest.mark.parametrize("name", ["b.pq", "c.PARQUET", "d.parq", "part-00001", "000000_0"])
def test_parquet_under_another_name_is_data(local_location: Location, name: str) -> None:
    write(local_location, "in/z.parquet", [input_row("q0")])
    write(local_location, f"in/deep/{name}", [input_row("q1")])
    assert read_query_ids(nested_files(local_location)).to_pylist() == ["q1", "q0"]


@pytest.mark.parametrize(
    ("name", "hint"), [("d.csv", "; to read CSV, set input.format=csv"), ("part-1", ""), ("e.jsonl.gz", "jsonl")]
)
def test_files_that_are_not_parquet_are_refused(local_location: Location, name: str, hint: str) -> None:
    write(local_location, "in/0.parquet", [input_row("q0")])
    folder = Path(local_location.url, "in")
    (folder / "README.md").write_text("notes")
    assert len(nested_files(local_location).paths) == 1
    (folder / "deep").mkdir()
    (folder / "deep" / name).write_text("query_id,query")
    with pytest.raises(InputError, match=rf"has 1 file not in Parquet format \(.*deep/{name}\); move.*{hint}"):
        open_parquet(local_location.input(), local_location.storage)


@pytest.mark.timeout(120)
def test_an_unreachable_endpoint_is_reported_after_few_attempts() -> None:
    unreachable = StorageConfig(
        endpoint_url="http://127.0.0.1:9", region="us-east-1", anonymous=True, max_attempts=1000
    )
    with pytest.raises(InputError, match=r"cannot list the input s3://bucket/in: .*onnect"):
        open_parquet(InputConfig(path="s3://bucket/in"), unreachable)


@pytest.mark.parametrize(
    ("query_ids", "message"),
    [
        (["a", None], r"b.parquet: query_id of row 1 is null; give every query its own"),
        (["a", ""], r"b.parquet: query_id of row 1 is empty"),
        (["a", "q0", "a"], r"2 query_ids occur more than once, '\w+' in row \d of .*parquet and row \d of .*b.parquet"),
        (["x" * 5000], r"b.parquet: a query_id of 5000 characters, near row 0; at most 1000"),
    ],
)
def test_invalid_query_ids_are_named(location: Location, query_ids: list[str | None], message: str) -> None:
    schema = pa.schema([field.with_nullable(True) for field in NESTED_INPUT])
    write(location, "in/a.parquet", [input_row("q0")], schema)
    write(location, "in/b.parquet", [{**input_row("x"), "query_id": each} for each in query_ids], schema)
    with pytest.raises(InputError, match=message):
        read_query_ids(nested_files(location))


@settings(max_examples=30)
@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=2), max_size=6), min_size=1, max_size=4))
def test_ids_are_refused_exactly_if_one_is_a_duplicate(local_location: Location, ids_of_files: list[list[str]]) -> None:
    name = f"in{len(ids_of_files)}"
    for number, ids in enumerate(ids_of_files):
        write(local_location, f"{name}/{number}.parquet", [input_row(each) for each in ids])
    files = nested_files(local_location, name)
    all_ids = [each for ids in ids_of_files for each in ids]
    if len(set(all_ids)) == len(all_ids):
        assert read_query_ids(files).to_pylist() == all_ids
        return
    with pytest.raises(InputError, match="more than once") as error:
        read_query_ids(files)
    duplicate = str(error.value).split("'")[1]
    assert all_ids.count(duplicate) > 1


def test_a_read_continues_after_a_transient_error(local_location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    write(local_location, "in/a.parquet", [input_row(f"q{number}") for number in range(9)])
    files, failures = nested_files(local_location), iter([2, 0, 1])

    class Failing(pq.ParquetFile):  # type: ignore[misc]
        def iter_batches(self, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
            batches = super().iter_batches(*arguments, **options)
            if (batches_before := next(failures, None)) is None:
                yield from batches
            else:
                yield from itertools.islice(batches, batches_before)
                raise OSError("AWS Error SLOW_DOWN during GetObject")

    monkeypatch.setattr(pq, "ParquetFile", Failing)
    monkeypatch.setattr("time.sleep", lambda _: None)
    found = [query_id for table in iter_tables(files, 2) for query_id in table["query_id"].to_pylist()]
    assert found == [f"q{number}" for number in range(9)]
    failures = itertools.repeat(0)
    with pytest.raises(InputError, match=r"a.parquet cannot be read: AWS Error SLOW_DOWN"):
        list(iter_tables(files, 2))


def test_an_input_without_rows_is_valid(local_location: Location) -> None:
    write(local_location, "in/a.parquet", [])
    files = nested_files(local_location)
    assert (files.rows, read_query_ids(files).to_pylist()) == (0, [])
