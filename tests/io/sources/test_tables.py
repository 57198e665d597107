"""Candidates in versions of tables: Delta, Iceberg and Lance."""

import pickle
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corpus_reranker.errors import ConfigError, InputError, OutputError
from corpus_reranker.io.schemas import CANDIDATE, NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from corpus_reranker.io.sinks.registry import open_sink
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.staging import stage
from corpus_reranker.run.fingerprint import recorded_input
from helpers.outputs import input_row
from helpers.tables import TABLES, DeltaTestTable, IcebergTestTable, TestTable

STORAGE = StorageConfig()

SCHEMA = pa.schema(
    [
        *NESTED_INPUT,
        ("day", pa.date32()),
        ("clicks", pa.int64()),
        ("weight", pa.float32()),
        ("tags", pa.list_(pa.string())),
        ("source", pa.struct([("site", pa.string()), ("page", pa.int32())])),
    ]
)


def rows(start: int, end: int) -> pa.Table:
    return pa.Table.from_pylist(
        [
            input_row(
                f"q{number}",
                number % 5,
                day=date(2026, 1, 1 + number % 28) if number % 3 else None,
                clicks=2**53 + number,
                weight=number / 4,
                tags=["a", f"ä{number}"],
                source={"site": f"s{number}", "page": number},
            )
            for number in range(start, end)
        ],
        SCHEMA,
    )


@pytest.fixture(params=sorted(TABLES))
def table(request: pytest.FixtureRequest, tmp_path: Path) -> TestTable:
    return TABLES[request.param](tmp_path / "table")


def read(settings: InputConfig, folder: Path) -> pa.Table:
    """The rows that a run reads, in the order of the ids."""
    files = stage(open_source(settings, STORAGE), str(folder), settings, STORAGE)
    return pa.concat_tables(iter_tables(files, 64)).sort_by("query_id")


def ids(settings: InputConfig) -> set[str]:
    tables = open_source(settings, STORAGE).tables()
    return {query_id for table in tables for query_id in table["query_id"].to_pylist()}


def names(start: int, end: int) -> set[str]:
    return {f"q{number}" for number in range(start, end)}


def test_rows_and_their_types_are_those_of_the_table(table: TestTable, tmp_path: Path) -> None:
    written = rows(0, 2000)
    table.append(written.slice(0, 1200))
    table.append(written.slice(1200))
    found = read(table.settings(), tmp_path / "staged")
    assert found.to_pylist() == written.sort_by("query_id").to_pylist()
    # Delta and Iceberg know one type of text, and no names of the items of a list.
    assert found.schema.names == SCHEMA.names
    assert found.cast(SCHEMA).schema == SCHEMA
    for name in (*NESTED_INPUT.names, "day", "clicks", "weight"):
        assert found.schema.field(name).type == SCHEMA.field(name).type


def test_a_source_can_be_pickled(table: TestTable) -> None:
    table.append(rows(0, 10))
    source = open_source(table.settings(), STORAGE)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint_fields() == source.fingerprint_fields()
    assert [part.to_pylist() for part in copy.tables()] == [part.to_pylist() for part in source.tables()]


def test_long_form_with_other_names(table: TestTable) -> None:
    written = pa.table(
        {
            "qid": ["q1", "q2", "q1", "q2", "q1"],
            "query": ["one", "two", "one", "two", "one"],
            "doc_id": ["a", "b", "c", "d", "e"],
            "text": ["A", "B", "C", "D", "E"],
            "score": [1.0, 2.0, 3.0, 4.0, 2.0],
        }
    )
    table.append(written)
    source = open_source(table.settings(columns={"query_id": "qid"}), STORAGE)
    assert source.form == "long"
    assert source.candidate_counts() == {3: 1, 2: 1}
    found = {row["query_id"]: row["candidates"] for part in source.tables() for row in part.to_pylist()}
    assert {name: [each["doc_id"] for each in hits] for name, hits in found.items()} == {
        "q1": ["c", "e", "a"],
        "q2": ["d", "b"],
    }


def test_a_resumed_run_reads_the_version_that_it_began_with(table: TestTable, tmp_path: Path) -> None:
    sink = open_sink(OutputConfig(path=str(tmp_path / "out")), STORAGE)

    def fields(settings: InputConfig) -> dict[str, Any]:
        return {"input": open_source(settings, STORAGE).fingerprint_fields()}

    begun_with = table.append(rows(0, 20))
    sink.begin(fields(table.settings()), 20, config_yaml="")
    latest = table.append(rows(20, 30))
    resumed = recorded_input(table.settings(), sink.record())
    assert resumed.version == begun_with
    assert ids(resumed) == names(0, 20)
    assert sink.check(fields(resumed)) is False
    assert ids(table.settings()) == names(0, 30)
    named = recorded_input(table.settings(version=latest), sink.record())
    assert ids(named) == names(0, 30)
    with pytest.raises(OutputError, match=rf'input\.version: "{begun_with}" -> "{latest}"'):
        sink.check(fields(named))
    other_format = InputConfig(path=str(tmp_path), format="csv")
    assert recorded_input(other_format, sink.record()) == other_format


def test_a_table_with_another_content_has_another_fingerprint(table: TestTable, tmp_path: Path) -> None:
    other = type(table)(tmp_path / "other")
    table.append(rows(0, 3))
    other.append(rows(0, 3))
    sources = [open_source(each.settings(), STORAGE) for each in (table, other)]
    assert sources[0].fingerprint_fields() != sources[1].fingerprint_fields()


def test_deleted_rows_are_not_read(table: TestTable) -> None:
    before = table.append(rows(0, 20))
    table.delete("q7")
    assert ids(table.settings()) == names(0, 20) - {"q7"}
    assert ids(table.settings(version=before)) == names(0, 20)


def test_rows_in_a_deletion_vector_of_delta_are_not_read(tmp_path: Path) -> None:
    table = DeltaTestTable(tmp_path / "table")
    before = table.append(rows(0, 100))
    table.delete_by_vector([0, 7, 99])
    assert ids(table.settings()) == names(0, 100) - {"q0", "q7", "q99"}
    assert ids(table.settings(version=before)) == names(0, 100)


def test_position_deletes_of_iceberg_are_not_read_and_equality_deletes_are_refused(tmp_path: Path) -> None:
    table = IcebergTestTable(tmp_path / "table")
    before = table.append(rows(0, 100))
    positions = pa.table({"file_path": [table.data_file()] * 2, "pos": pa.array([7, 99], pa.int64())})
    with_positions = table.add_delete_file(positions)
    assert ids(table.settings()) == names(0, 100) - {"q7", "q99"}
    table.add_delete_file(pa.table({"query_id": ["q3"]}), equality=True)
    with pytest.raises(InputError, match=r"Iceberg table search.candidates snapshot .* equality deletes") as caught:
        open_source(table.settings(), STORAGE)
    assert "\n" not in str(caught.value)
    assert ids(table.settings(version=with_positions)) == names(0, 100) - {"q7", "q99"}
    assert ids(table.settings(version=before)) == names(0, 100)


def test_partition_columns_of_delta_are_read(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(tmp_path / "table"), rows(0, 20), partition_by=["day"])
    found = read(InputConfig(path=str(tmp_path / "table"), format="delta"), tmp_path / "staged")
    assert (
        found.select(["query_id", "day"]).to_pylist()
        == rows(0, 20).select(["query_id", "day"]).sort_by("query_id").to_pylist()
    )


def test_a_renamed_column_of_iceberg_is_read(tmp_path: Path) -> None:
    table = IcebergTestTable(tmp_path / "table")
    table.append(rows(0, 5).rename_columns({"query": "question"}))
    with table.table.update_schema() as update:
        update.rename_column("question", "query")
    table.append(rows(5, 9))
    assert ids(table.settings()) == names(0, 9)


def test_columns_of_iceberg_that_changed_after_the_last_snapshot_are_refused(tmp_path: Path) -> None:
    table = IcebergTestTable(tmp_path / "table")
    before = table.append(rows(0, 4).rename_columns({"clicks": "views"}))
    with table.table.update_schema() as update:
        update.rename_column("views", "clicks")
    with pytest.raises(InputError, match=f"input.version={before}"):
        open_source(table.settings(), STORAGE)
    assert "views" in read(table.settings(version=before), tmp_path / "staged").column_names
    table.append(rows(4, 8))
    assert ids(table.settings()) == names(0, 8)


def test_a_metadata_file_of_iceberg_needs_no_catalog(tmp_path: Path) -> None:
    table = IcebergTestTable(tmp_path / "table")
    table.append(rows(0, 5))
    location = table.table.metadata_location
    table.append(rows(5, 9))
    assert ids(InputConfig(path=location, format="iceberg")) == names(0, 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            rows(0, 3).drop_columns(["query"]),
            "(version|snapshot) [0-9]+: no column 'query', expected string .nested form.",
        ),
        (rows(0, 3).set_column(0, "query_id", pa.array(["q0", None, "q2"])), "query_id of row 1 is null"),
        (
            rows(0, 3).set_column(0, "query_id", pa.array(["q0", "q1", "q0"])),
            "1 query_ids occur more than once, 'q0' in row 0 of .* and row 2 of .*; every query needs its own",
        ),
        (rows(0, 3).set_column(0, "query_id", pa.array([1, 2, 3])), "'query_id' is int64.*input.cast_ids=true"),
    ],
    ids=["missing", "null", "duplicate", "type"],
)
def test_a_wrong_schema_or_id_names_the_table(table: TestTable, changed: pa.Table, message: str) -> None:
    table.append(changed)
    with pytest.raises(InputError, match=message) as caught:
        list(open_source(table.settings(), STORAGE).tables())
    assert table.path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_or_version_is_an_error_of_one_line(table: TestTable) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        open_source(table.settings(), STORAGE)
    assert "\n" not in str(caught.value)
    table.append(rows(0, 3))
    with pytest.raises(InputError, match="77"):
        open_source(table.settings(version="77"), STORAGE)
    with pytest.raises(ConfigError, match=r"input.version: 'latest' is not the number"):
        open_source(table.settings(version="latest"), STORAGE)


def test_a_missing_library_names_the_extra(table: TestTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.append(rows(0, 3))
    library = {"delta": "deltalake", "iceberg": "pyiceberg", "lance": "lance"}[table.format]
    for module in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"pip install 'corpus-reranker\[{table.format}\]'"):
        open_source(table.settings(), STORAGE)


def test_a_version_of_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"query_id": "1", "query": "q", "doc_id": "d", "text": "t", "score": 1}\n')
    with pytest.raises(ConfigError, match=r"input.version: this input of format jsonl has no versions"):
        open_source(InputConfig(path=str(tmp_path), format="jsonl", version="3"), STORAGE)


@pytest.mark.parametrize("format_name", ["delta", "lance"])
def test_unknown_options_are_refused(format_name: str) -> None:
    settings = InputConfig(path="table", format=format_name, options={"endpoint": "x"})
    with pytest.raises(ConfigError, match=rf"input.options of format {format_name}: unknown key 'endpoint'"):
        open_source(settings, STORAGE)


@pytest.mark.parametrize("properties", [{"token": "x"}, {"s3.access-key-id": "x"}, {"uri": "postgresql://u:p@host/db"}])
def test_secrets_in_properties_of_iceberg_are_refused(properties: dict[str, str]) -> None:
    settings = InputConfig(path="a.b", format="iceberg", options=properties)
    with pytest.raises(ConfigError, match="may hold a secret"):
        open_source(settings, STORAGE)


def test_a_version_in_yaml_may_be_a_number() -> None:
    assert InputConfig.model_validate({"path": "table", "version": 3}).version == "3"


def test_candidates_without_title_and_score(table: TestTable) -> None:
    structs = pa.list_(pa.struct([CANDIDATE.field(0), CANDIDATE.field(1)]))
    table.append(pa.table({"query_id": ["q"], "query": ["x"], "candidates": pa.array([[("d", "t")]], structs)}))
    (part,) = open_source(table.settings(), STORAGE).tables()
    assert part["candidates"].to_pylist() == [[{"doc_id": "d", "text": "t"}]]
