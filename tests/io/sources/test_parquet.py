from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.schemas import LONG_INPUT, NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.parquet import check_input, read_query_ids
from helpers.locations import Location
from helpers.outputs import input_row, write

CANDIDATES_TYPE = NESTED_INPUT.field("candidates").type


def test_a_folder_is_its_files_in_order(position: Location) -> None:
    write(position, "in/b.parquet", [input_row("q3")])
    write(position, "in/a.parquet", [input_row("q1"), input_row("q2")])
    write(position, "in/day=1/c.parquet", [input_row("q4")])
    write(position, "in/_temporary/x.parquet", [input_row("q1")])
    write(position, "in/.hidden.parquet", [input_row("q1")])
    source = check_input(position.input(), position.storage)
    assert [path.rpartition("/in/")[2] for path in source.paths] == ["a.parquet", "b.parquet", "day=1/c.parquet"]
    assert (source.form, source.rows) == ("nested", 4)
    assert read_query_ids(source).to_pylist() == ["q1", "q2", "q3", "q4"]
    one = check_input(position.input("in/a.parquet"), position.storage)
    assert read_query_ids(one).to_pylist() == ["q1", "q2"]


def test_the_identity_follows_the_content_not_the_place(local_location: Location) -> None:
    for name in ("in/a.parquet", "copy/of/a.parquet"):
        write(local_location, name, [input_row("q1")])
    write(local_location, "other/a.parquet", [input_row("q9")])
    here, copy, other = (
        check_input(local_location.input(name), local_location.storage).fingerprint_fields()
        for name in ("in", "copy", "other")
    )
    assert here == copy
    assert here["digest"] != other["digest"]
    assert (here["rows"], here["files"]) == (1, 1)


def with_type(name: str, type_: pa.DataType) -> pa.Schema:
    return NESTED_INPUT.set(NESTED_INPUT.get_field_index(name), pa.field(name, type_))


def struct_without(name: str) -> pa.DataType:
    return pa.list_(pa.struct([field for field in CANDIDATES_TYPE.value_type if field.name != name]))


BAD_SCHEMAS = [
    (
        NESTED_INPUT.remove(1),
        r"no column 'query'; it has: query_id, candidates. The nested form needs query_id: string",
    ),
    (NESTED_INPUT.remove(2), r"no column 'candidates'"),
    (LONG_INPUT.remove(3), r"no column 'text'.*The long form needs"),
    (with_type("query_id", pa.int64()), r"'query_id' is int64; cast it to string"),
    (with_type("candidates", pa.string()), r"'candidates' is string; it must be query_id: string, .*list<"),
    (with_type("candidates", pa.list_(pa.string())), r"'candidates' is list<"),
    (with_type("candidates", struct_without("doc_id")), r"structs of 'candidates' have no field 'doc_id'"),
    (with_type("candidates", struct_without("score")), r"structs of 'candidates' have no field 'score'"),
    (LONG_INPUT.set(5, pa.field("score", pa.string())), r"'score' is string; cast it to double"),
    (NESTED_INPUT.append(pa.field("ranking", pa.string())), r"'ranking' has the name of an output column; rename it"),
    (NESTED_INPUT.append(pa.field("m", pa.map_(pa.string(), pa.string()))), r"'m' is map<.*cast or drop it"),
    (NESTED_INPUT.append(pa.field("u", pa.list_(pa.uint64()))), r"'u' is uint64"),
    (NESTED_INPUT.append(pa.field("query", pa.string())), r"two columns named 'query'; rename one"),
]


@pytest.mark.parametrize(("schema", "message"), BAD_SCHEMAS)
def test_a_wrong_schema_is_an_error_that_names_file_column_and_fix(
    local_location: Location, schema: pa.Schema, message: str
) -> None:
    path = write(local_location, "in/a.parquet", schema.empty_table())
    with pytest.raises(InputError, match=message) as error:
        check_input(local_location.input(), local_location.storage)
    assert path in str(error.value)


def test_no_title_other_numbers_and_other_columns_are_fine(local_location: Location) -> None:
    schema = with_type(
        "candidates",
        pa.large_list(pa.struct([("score", pa.float32()), ("doc_id", pa.large_string()), ("text", pa.string())])),
    ).append(pa.field("when", pa.timestamp("ns", "UTC")))
    write(local_location, "in/a.parquet", schema.empty_table())
    assert check_input(local_location.input(), local_location.storage).form == "nested"


def test_files_that_differ_are_named(local_location: Location) -> None:
    write(local_location, "in/a.parquet", [input_row("q1")])
    write(local_location, "in/b.parquet", [], NESTED_INPUT.append(pa.field("x", pa.int64())))
    with pytest.raises(InputError, match=r"column 'x' is int64 in .*b.parquet and absent in .*a.parquet; write them"):
        check_input(local_location.input(), local_location.storage)


def test_nothing_there(position: Location) -> None:
    with pytest.raises(InputError, match=r"there is no file or folder .*in"):
        check_input(position.input(), position.storage)
    filesystem, path = resolve(f"{position.url}/in/notes.txt", position.storage)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    filesystem.open_output_stream(path).close()
    with pytest.raises(InputError, match=r"there is no \*.parquet in .*in"):
        check_input(position.input(), position.storage)


@pytest.mark.timeout(120)
def test_an_endpoint_that_is_not_there_is_told_at_once_and_not_after_every_attempt() -> None:
    nowhere = StorageConfig(endpoint_url="http://127.0.0.1:9", region="us-east-1", anonymous=True, max_attempts=1000)
    with pytest.raises(InputError, match=r"cannot list the input s3://bucket/in: .*onnect"):
        check_input(InputConfig(path="s3://bucket/in"), nowhere)


@pytest.mark.parametrize(
    ("query_ids", "message"),
    [
        (["a", None], r"b.parquet: query_id of row 1 is null; give every query its own"),
        (["a", ""], r"b.parquet: query_id of row 1 is empty"),
        (["a", "q0", "a"], r"2 query_ids occur more than once, '\w+' in row \d of .*parquet and row \d of .*b.parquet"),
        (["x" * 5000], r"b.parquet: a query_id of 5000 bytes, near row 0; at most 1000"),
    ],
)
def test_query_ids_that_cannot_be(position: Location, query_ids: list[str | None], message: str) -> None:
    schema = pa.schema([field.with_nullable(True) for field in NESTED_INPUT])
    write(position, "in/a.parquet", [input_row("q0")], schema)
    write(position, "in/b.parquet", [{**input_row("x"), "query_id": each} for each in query_ids], schema)
    source = check_input(position.input(), position.storage)
    with pytest.raises(InputError, match=message):
        read_query_ids(source)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=2), max_size=6), min_size=1, max_size=4))
def test_ids_are_refused_exactly_when_one_repeats(local_location: Location, files: list[list[str]]) -> None:
    for number, ids in enumerate(files):
        write(local_location, f"in{len(files)}/{number}.parquet", [input_row(each) for each in ids])
    source = check_input(local_location.input(f"in{len(files)}"), local_location.storage)
    flat = [each for ids in files for each in ids]
    if len(set(flat)) == len(flat):
        assert read_query_ids(source).to_pylist() == flat
        return
    with pytest.raises(InputError, match="more than once") as error:
        read_query_ids(source)
    repeated: Any = str(error.value).split("'")[1]
    assert flat.count(repeated) > 1


def test_an_input_without_rows_is_an_input(local_location: Location) -> None:
    write(local_location, "in/a.parquet", [])
    source = check_input(local_location.input(), StorageConfig())
    assert (source.rows, read_query_ids(source).to_pylist()) == (0, [])
