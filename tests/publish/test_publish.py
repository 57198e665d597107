"""Finished outputs in tables: every row once, in one commit, also after a kill and a second call."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
import yaml
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import ConfigError, InputError, OutputError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish.publisher import Published, _Rows, publish
from corpus_reranker.publish.settings import PublishConfig
from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

LOCAL = LocalFileSystem()
LIBRARIES = {"delta": "deltalake", "iceberg": "pyiceberg.io.pyarrow", "lance": "lance", "hugging_face": "yaml"}
ADDED = [pa.field("run_id", pa.string()), pa.field("date", pa.string())]


@pytest.fixture(params=list(LIBRARIES))
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(LIBRARIES[request.param])
    return str(request.param)


def write_output(folder: Path, run_id: str, queries: int = 6) -> Path:
    """An output of three data files, the queries `RUN-0`, `RUN-1`, ..."""
    rows = [output_row(f"{run_id}-{number}", [1, 0], query="why?") for number in range(queries)]
    third = queries // 3
    schema = SCHEMA.with_metadata({"reranker.run_id": run_id})
    return write_data_files(folder / run_id, [rows[:third], rows[third : 2 * third], rows[2 * third :]], schema)


def settings(folder: Path, kind: str, **options: Any) -> PublishConfig:
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    where: dict[str, Any] = {"destination": str(folder / "table")}
    if kind == "iceberg":
        where = {"destination": "reranked.daily", "options": catalog}
    return PublishConfig.model_validate({"to": kind, **where, **options})


def run(folder: Path, kind: str, run_id: str, **options: Any) -> Published:
    return publish((LOCAL, str(folder / run_id)), settings(folder, kind, **options), StorageConfig())


def read_delta(config: PublishConfig) -> pa.Table:
    import deltalake

    if not deltalake.DeltaTable.is_deltatable(config.destination):
        return pa.table({})
    return deltalake.DeltaTable(config.destination).to_pyarrow_table()


def read_iceberg(config: PublishConfig) -> pa.Table:
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog(config.catalog, **config.options)
    return (
        catalog.load_table(config.destination).scan().to_arrow()
        if catalog.table_exists(config.destination)
        else pa.table({})
    )


def read_lance(config: PublishConfig) -> pa.Table:
    import lance

    try:
        return lance.dataset(config.destination).to_table()
    except ValueError:
        return pa.table({})


def read_hugging_face(config: PublishConfig) -> pa.Table:
    """The files that the card names, as `datasets` reads them."""
    card = Path(config.destination) / "README.md"
    if not card.exists():
        return pa.table({})
    (named,) = next(yaml.safe_load_all(card.read_text()))["configs"]
    paths = [path for pattern in named["data_files"][0]["path"] for path in Path(config.destination).glob(pattern)]
    return pads.dataset([str(path) for path in paths], format="parquet").to_table()


READERS: dict[str, Callable[[PublishConfig], pa.Table]] = {
    "delta": read_delta,
    "iceberg": read_iceberg,
    "lance": read_lance,
    "hugging_face": read_hugging_face,
}


def query_ids(folder: Path, kind: str, **options: Any) -> list[str]:
    """Sorted ids in the table, empty if there is no table."""
    table = READERS[kind](settings(folder, kind, **options))
    return sorted(table["query_id"].to_pylist()) if table.num_columns else []


def ids_of(run_id: str, queries: int = 6) -> list[str]:
    return sorted(f"{run_id}-{number}" for number in range(queries))


def test_types_are_kept_and_a_run_published_twice_is_there_once(tmp_path: Path, kind: str) -> None:
    output = write_output(tmp_path, "A", 2000)
    published = run(tmp_path, kind, "A", partition="2026-01-01")
    assert (published.run_id, published.rows) == ("A", 2000)
    table = READERS[kind](settings(tmp_path, kind))
    assert {field.name: field.type for field in table.schema} == {field.name: field.type for field in [*SCHEMA, *ADDED]}
    assert set(table["run_id"].to_pylist()) == {"A"}
    expected = pads.dataset([str(path) for path in sorted(output.glob("part-*.parquet"))]).to_table()
    assert table.select(SCHEMA.names).sort_by("query_id").cast(SCHEMA).equals(expected.sort_by("query_id"))
    assert run(tmp_path, kind, "A", partition="2026-01-01") == Published("A", None, 0)
    assert query_ids(tmp_path, kind) == ids_of("A", 2000)


def test_a_partition_is_replaced_and_the_others_stay(tmp_path: Path, kind: str) -> None:
    for run_id, date in (("A", "2026-01-01"), ("B", "2026-01-02"), ("C", "2026-01-01")):
        write_output(tmp_path, run_id)
        run(tmp_path, kind, run_id, partition=date)
    assert query_ids(tmp_path, kind) == ids_of("B") + ids_of("C")
    table = READERS[kind](settings(tmp_path, kind))
    assert set(zip(table["date"].to_pylist(), table["run_id"].to_pylist(), strict=True)) == {
        ("2026-01-01", "C"),
        ("2026-01-02", "B"),
    }


def test_a_table_without_partitions_holds_the_last_run(tmp_path: Path, kind: str) -> None:
    for run_id in "AB":
        write_output(tmp_path, run_id)
        assert run(tmp_path, kind, run_id).rows == 6
    assert query_ids(tmp_path, kind) == ids_of("B")
    assert run(tmp_path, kind, "A", columns=("query_id", "ranking")).rows == 6
    assert query_ids(tmp_path, kind) == ids_of("A")


PUBLISH_AND_EXIT = """
import json, os, sys
from pyarrow.fs import LocalFileSystem
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish import publisher
from corpus_reranker.publish.settings import PublishConfig

output, config, when = sys.argv[1:]
extended, calls = publisher._Rows._extended, []

def exit_in_the_third_file(self, batch):
    calls.append(batch)
    if when == "before" and len(calls) == 3:
        os._exit(9)
    return extended(self, batch)

publisher._Rows._extended = exit_in_the_third_file
publisher.publish((LocalFileSystem(), output), PublishConfig(**json.loads(config)), StorageConfig())
os._exit(9)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_leaves_the_old_or_the_new_rows(tmp_path: Path, kind: str, when: str) -> None:
    for run_id in "AB":
        write_output(tmp_path, run_id)
    run(tmp_path, kind, "A", partition="2026-01-01")
    config = settings(tmp_path, kind, partition="2026-01-01").model_dump_json()
    program = [sys.executable, "-c", PUBLISH_AND_EXIT, str(tmp_path / "B"), config, when]
    killed = subprocess.run(program, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == 9
    assert query_ids(tmp_path, kind) == ids_of("A" if when == "before" else "B")
    again = run(tmp_path, kind, "B", partition="2026-01-01")
    assert (again.version is None) == (when == "after")
    assert query_ids(tmp_path, kind) == ids_of("B")


@pytest.mark.parametrize("kind", ["delta", "iceberg", "lance"], indirect=True)
@pytest.mark.parametrize("partition", [None, "2026-01-01"])
@pytest.mark.parametrize("is_new", [True, False])
def test_of_two_concurrent_runs_one_is_refused(
    tmp_path: Path, kind: str, partition: str | None, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run B is published in another thread while the rows of run A are read."""
    for run_id in "ABC":
        write_output(tmp_path, run_id)
    if not is_new:
        run(tmp_path, kind, "C", partition=partition)
    extended: Callable[..., pa.RecordBatch] = _Rows._extended
    others: list[threading.Thread] = []

    def publish_b_first(rows: _Rows, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not others:
            others.append(threading.Thread(target=run, args=(tmp_path, kind, "B"), kwargs={"partition": partition}))
            others[0].start()
            others[0].join()
        return extended(rows, batch)

    monkeypatch.setattr(_Rows, "_extended", publish_b_first)
    with pytest.raises(OutputError, match=r"cannot publish to|another writer has created"):
        run(tmp_path, kind, "A", partition=partition)
    assert query_ids(tmp_path, kind) == ids_of("B")


def test_an_output_that_cannot_be_read_leaves_no_table(tmp_path: Path, kind: str) -> None:
    (write_output(tmp_path, "A") / "part-00002.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(InputError, match=r"cannot read .*part-00002\.parquet"):
        run(tmp_path, kind, "A", partition="2026-01-01")
    assert query_ids(tmp_path, kind) == []


def test_datasets_reads_a_published_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for run_id, date in (("A", "2026-01-01"), ("B", "2026-01-02"), ("C", "2026-01-01")):
        write_output(tmp_path, run_id)
        run(tmp_path, "hugging_face", run_id, partition=date)
    loaded = datasets.load_dataset(str(tmp_path / "table"), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["query_id"]) == ids_of("B") + ids_of("C")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    write_output(tmp_path, "A")
    (tmp_path / "table").mkdir()
    (tmp_path / "table/README.md").write_text("# My dataset\n")
    with pytest.raises(OutputError, match="is not from corpus-reranker publish"):
        run(tmp_path, "hugging_face", "A")
    run(tmp_path, "hugging_face", "A", destination=str(tmp_path / "other"))
    with pytest.raises(OutputError, match="with and without a partition"):
        run(tmp_path, "hugging_face", "A", destination=str(tmp_path / "other"), partition="2026-01-01")


@pytest.mark.parametrize(("name", "module"), [("delta", "deltalake"), ("iceberg", "pyiceberg"), ("lance", "lance")])
def test_a_missing_package_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    for loaded in [each for each in sys.modules if each.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    write_output(tmp_path, "A")
    with pytest.raises(ConfigError, match=rf"install the extra: pip install 'corpus-reranker\[{name}\]'"):
        run(tmp_path, name, "A")


def test_refused_outputs(tmp_path: Path) -> None:
    output = write_output(tmp_path, "A")
    with pytest.raises(InputError, match=r"the output has no column text; it has query_id, "):
        run(tmp_path, "hugging_face", "A", columns=("text",))
    with pytest.raises(InputError, match=r"the output has a column query, which publish adds"):
        run(tmp_path, "hugging_face", "A", partition="x", partition_column="query")
    (output / "_SUCCESS").unlink()
    (output / "_run/run.json").write_text('{"queries": 20}')
    with pytest.raises(InputError, match="no _SUCCESS"):
        run(tmp_path, "hugging_face", "A")
    write_data_files(tmp_path / "old", [[output_row("1", [0])]])
    with pytest.raises(InputError, match="names no run in its metadata"):
        run(tmp_path, "hugging_face", "old")
    assert not (tmp_path / "table").exists()


def test_the_command_publishes_the_day_of_a_scheduled_run(tmp_path: Path) -> None:
    write_output(tmp_path, "A")
    config = tmp_path / "job.yaml"
    config.write_text(
        f"output: {{path: {tmp_path}/A}}\n"
        f"publish: {{to: hugging_face, destination: {tmp_path}/table, partition: '{{date}}'}}\n"
    )
    command = ("publish", "--config", str(config), "--date", "2026-01-05")
    result = run_command(*command)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/table: 6 rows of run A, version A\n"), result.output
    assert (tmp_path / "table/data/2026-01-05/A").is_dir()
    assert run_command(*command).stdout == f"{tmp_path}/table: holds the rows of run A already\n"
    check_refused(run_command(*command, "--to", "delte"), "unknown kind of table 'delte'; did you mean 'delta'?")
