"""Finished outputs in tables: every row once, in one commit, even after a kill and a second call."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from corpus_reranker.errors import ConfigError, InputError, OutputError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish.publisher import Published, _Rows
from helpers.command_line import check_refused, run_command
from helpers.locations import Location
from helpers.published_tables import LIBRARIES, PublishedTable, ids_of
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

DAY = "2026-01-01"
ADDED = [pa.field("run_id", pa.string()), pa.field("date", pa.string())]


@pytest.fixture(params=list(LIBRARIES))
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(LIBRARIES[request.param])
    return str(request.param)


@pytest.fixture
def table(kind: str, tmp_path: Path, local_location: Location) -> PublishedTable:
    """A table on local disk."""
    return PublishedTable(kind, tmp_path, local_location)


@pytest.fixture
def any_table(kind: str, tmp_path: Path, location: Location) -> PublishedTable:
    """A test with this fixture runs on local disk, on moto and on SeaweedFS."""
    return PublishedTable(kind, tmp_path, location)


@pytest.fixture
def folder(tmp_path: Path, local_location: Location) -> PublishedTable:
    """A folder of Hugging Face on local disk."""
    return PublishedTable("hugging_face", tmp_path, local_location)


def test_types_are_kept_and_a_run_published_twice_is_there_once(any_table: PublishedTable) -> None:
    output = any_table.write_output("A", 2000)
    published = any_table.publish("A", partition=DAY)
    assert (published.run_id, published.rows) == ("A", 2000)
    table = any_table.rows()
    assert {field.name: field.type for field in table.schema} == {field.name: field.type for field in [*SCHEMA, *ADDED]}
    assert set(table["run_id"].to_pylist()) == {"A"}
    expected = pads.dataset([str(path) for path in sorted(output.glob("part-*.parquet"))]).to_table()
    assert table.select(SCHEMA.names).sort_by("query_id").cast(SCHEMA).equals(expected.sort_by("query_id"))
    assert any_table.publish("A", partition=DAY) == Published("A", None, 0)
    assert any_table.query_ids() == ids_of("A", 2000)


def test_a_partition_is_replaced_and_the_others_stay(any_table: PublishedTable) -> None:
    for run_id, date in (("A", "2026-01-01"), ("B", "2026-01-02"), ("C", "2026-01-01")):
        any_table.write_output(run_id)
        any_table.publish(run_id, partition=date)
    assert any_table.query_ids() == ids_of("B") + ids_of("C")
    table = any_table.rows()
    assert set(zip(table["date"].to_pylist(), table["run_id"].to_pylist(), strict=True)) == {
        ("2026-01-01", "C"),
        ("2026-01-02", "B"),
    }


def test_a_table_without_partitions_holds_the_last_run(table: PublishedTable) -> None:
    for run_id in "AB":
        table.write_output(run_id)
        assert table.publish(run_id).rows == 6
    assert table.query_ids() == ids_of("B")
    assert table.publish("A", columns=("query_id", "ranking")).rows == 6
    assert table.query_ids() == ids_of("A")


PUBLISH_AND_EXIT = """
import json, os, sys
from pyarrow.fs import LocalFileSystem
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish import publisher
from corpus_reranker.publish.settings import PublishConfig

output, config, storage, when = sys.argv[1:]
extended, calls = publisher._Rows._extended, []

def exit_in_the_third_file(self, batch):
    calls.append(batch)
    if when == "before" and len(calls) == 3:
        os._exit(9)
    return extended(self, batch)

publisher._Rows._extended = exit_in_the_third_file
storage = StorageConfig(**json.loads(storage))
publisher.publish((LocalFileSystem(), output), PublishConfig(**json.loads(config)), storage)
os._exit(9)
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("location", ["local", "s3_server"], indirect=True)
def test_a_kill_leaves_the_old_or_the_new_rows(any_table: PublishedTable, when: str) -> None:
    for run_id in "AB":
        any_table.write_output(run_id)
    any_table.publish("A", partition=DAY)
    config = any_table.settings(partition=DAY).model_dump_json()
    output, storage = str(any_table.folder / "B"), any_table.location.storage.model_dump_json()
    program = [sys.executable, "-c", PUBLISH_AND_EXIT, output, config, storage, when]
    killed = subprocess.run(program, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == 9
    assert any_table.query_ids() == ids_of("A" if when == "before" else "B")
    again = any_table.publish("B", partition=DAY)
    assert (again.version is None) == (when == "after")
    assert any_table.query_ids() == ids_of("B")


@pytest.mark.parametrize(
    ("location", "partition", "before"),
    [
        ("local", None, "nothing"),
        ("local", None, "same"),
        ("local", DAY, "nothing"),
        ("local", DAY, "same"),
        ("local", DAY, "other"),
        ("s3_server", DAY, "nothing"),
        ("s3_server", DAY, "other"),
        ("seaweedfs", None, "nothing"),
        ("seaweedfs", DAY, "other"),
    ],
    indirect=["location"],
)
def test_one_of_two_concurrent_runs_is_refused(
    any_table: PublishedTable, partition: str | None, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run B is published in another thread while the rows of run A are read.

    The table does not exist before, or holds a run C in the same or in another partition.
    """
    for run_id in "ABC":
        any_table.write_output(run_id)
    if before != "nothing":
        any_table.publish("C", partition=partition if before == "same" else "2026-01-02")
    extended: Callable[..., pa.RecordBatch] = _Rows._extended
    others: list[threading.Thread] = []

    def publish_b_first(rows: _Rows, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not others:
            others.append(threading.Thread(target=any_table.publish, args=("B",), kwargs={"partition": partition}))
            others[0].start()
            others[0].join()
        return extended(rows, batch)

    monkeypatch.setattr(_Rows, "_extended", publish_b_first)
    with pytest.raises(OutputError, match=r"cannot publish to|another writer has published") as refused:
        any_table.publish("A", partition=partition)
    assert "\n" not in str(refused.value)
    kept = ids_of("C") if before == "other" else []
    assert any_table.query_ids() == ids_of("B") + kept


def test_an_output_that_cannot_be_read_leaves_no_table(table: PublishedTable) -> None:
    (table.write_output("A") / "part-00002.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(InputError, match=r"cannot read .*part-00002\.parquet"):
        table.publish("A", partition=DAY)
    assert table.query_ids() == []


def test_an_output_without_rows_empties_the_table(table: PublishedTable) -> None:
    table.write_output("A", 0)
    table.write_output("B")
    for run_id, ids in (("A", []), ("B", ids_of("B")), ("A", [])):
        assert table.publish(run_id).rows == len(ids)
        assert table.query_ids() == ids


def test_a_table_is_published_with_or_without_partitions(table: PublishedTable) -> None:
    for run_id in "AB":
        table.write_output(run_id)
    table.publish("A")
    with pytest.raises(OutputError, match=r"published without a partition|with and without a partition"):
        table.publish("B", partition=DAY)
    other = PublishedTable(table.kind, table.folder / "other", Location(f"{table.location.url}/other", StorageConfig()))
    for run_id in "AB":
        other.write_output(run_id)
    other.publish("A", partition=DAY)
    with pytest.raises(OutputError, match=r"published with partitions of the column date|with and without a partition"):
        other.publish("B")
    assert (table.query_ids(), other.query_ids()) == (ids_of("A"), ids_of("A"))


def test_a_partition_may_have_other_columns(table: PublishedTable) -> None:
    for run_id in "ABC":
        table.write_output(run_id)
    table.publish("A", partition=DAY, columns=("query_id", "ranking", "status"))
    table.publish("B", partition="it's `x`/ä %2F", columns=("query_id", "ranking"))
    if table.kind == "lance":
        with pytest.raises(
            OutputError, match=r"has no column .*, windows, and a partition cannot add columns .* publish\.columns"
        ):
            table.publish("C", partition="2026-01-03")
    else:
        table.publish("C", partition="2026-01-03")
    assert table.query_ids() == ids_of("A") + ids_of("B") + (ids_of("C") if table.kind != "lance" else [])


@pytest.mark.parametrize("kind", ["delta", "lance"], indirect=True)
def test_a_table_of_another_program_is_unchanged(table: PublishedTable) -> None:
    rows, path = pa.table({"query_id": ["x"]}), table.settings().destination
    if table.kind == "delta":
        pytest.importorskip("deltalake").write_deltalake(path, rows)
    else:
        pytest.importorskip("lance").write_dataset(rows, path)
    table.write_output("A")
    with pytest.raises(OutputError, match="has no column run_id, so it is not from corpus-reranker publish"):
        table.publish("A")
    assert table.query_ids() == ["x"]


def test_datasets_reads_a_published_folder(tmp_path: Path, folder: PublishedTable) -> None:
    datasets = pytest.importorskip("datasets")
    for run_id, date in (("A", "2026-01-01"), ("B", "2026-01-02"), ("C", "2026-01-01")):
        folder.write_output(run_id)
        folder.publish(run_id, partition=date)
    loaded = datasets.load_dataset(str(tmp_path / "table"), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["query_id"]) == ids_of("B") + ids_of("C")


def test_a_folder_of_other_files_is_unchanged(tmp_path: Path, folder: PublishedTable) -> None:
    folder.write_output("A")
    (tmp_path / "table").mkdir()
    (tmp_path / "table/README.md").write_text("# My dataset\n")
    with pytest.raises(OutputError, match="is not from corpus-reranker publish"):
        folder.publish("A")
    folder.publish("A", destination=str(tmp_path / "other"))
    with pytest.raises(OutputError, match="with and without a partition"):
        folder.publish("A", destination=str(tmp_path / "other"), partition=DAY)


@pytest.mark.parametrize(("name", "module"), [("delta", "deltalake"), ("iceberg", "pyiceberg"), ("lance", "lance")])
def test_a_missing_package_is_an_extra(
    tmp_path: Path, local_location: Location, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    for loaded in [each for each in sys.modules if each.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    table = PublishedTable(name, tmp_path, local_location)
    table.write_output("A")
    with pytest.raises(ConfigError, match=rf"install the extra: pip install 'corpus-reranker\[{name}\]'"):
        table.publish("A")


def test_refused_outputs(tmp_path: Path, folder: PublishedTable) -> None:
    output = folder.write_output("A")
    with pytest.raises(InputError, match=r"the output has no column text; it has query_id, "):
        folder.publish("A", columns=("text",))
    with pytest.raises(InputError, match=r"the output has a column query, which publish adds"):
        folder.publish("A", partition="x", partition_column="query")
    (output / "_SUCCESS").unlink()
    (output / "_run/run.json").write_text('{"queries": 20}')
    with pytest.raises(InputError, match="no _SUCCESS"):
        folder.publish("A")
    write_data_files(tmp_path / "old", [[output_row("1", [0])]])
    with pytest.raises(InputError, match="names no run in its metadata"):
        folder.publish("old")
    assert not (tmp_path / "table").exists()


def test_the_command_publishes_the_day_of_a_scheduled_run(tmp_path: Path, folder: PublishedTable) -> None:
    folder.write_output("A")
    config = tmp_path / "job.yaml"
    config.write_text(
        f"output: {{path: {tmp_path}/A}}\n"
        f"publish: {{to: hugging_face, destination: {tmp_path}/table, partition: '{{date}}'}}\n"
    )
    command = ("publish", "--config", str(config), "--date", "2026-01-05")
    result = run_command(*command)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/table: 6 rows of run A, version A\n"), result.output
    assert (tmp_path / "table/data/2026-01-05/A").is_dir()
    assert run_command(*command).stdout == f"{tmp_path}/table: already holds the rows of run A\n"
    check_refused(run_command(*command, "--to", "delte"), "unknown kind of table 'delte'; did you mean 'delta'?")
