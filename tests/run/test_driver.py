"""The driver from open to commit without its passes, and so without Ray."""

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corpus_reranker import __version__
from corpus_reranker.errors import InputError, OutputError, RunError
from corpus_reranker.io.schemas import LONG_INPUT, NESTED_INPUT
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet_files import read_query_ids
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.status import read_status
from corpus_reranker.run.driver import run_job
from corpus_reranker.run.passes import RunContext
from helpers.runs import config, query, rerank, write_input
from helpers.tables import DeltaTestTable

pytestmark = pytest.mark.usefixtures("no_subprocess")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder with a finished run over an input without queries."""
    write_input(tmp_path / "in", [])
    rerank(config(tmp_path))
    return tmp_path


def test_an_input_without_queries_gives_a_finished_output_with_a_report(finished: Path) -> None:
    status = read_status(f"{finished}/out", config(finished).storage)
    assert (status.finished, status.done, status.holder) == (True, 0, None)
    assert status.manifest is not None
    assert status.manifest["info"]["versions"] == {"started": __version__, "finished": __version__}
    assert (finished / "out" / "_run" / "report.html").exists()
    (finished / "in" / "0.parquet").rename(finished / "in" / "1.parquet")
    manifest, lines = rerank(config(finished))
    assert manifest == status.manifest
    assert [line.partition(": ")[0] for line in lines] == ["nothing to do"]


@pytest.mark.parametrize(("schema", "limit"), [(NESTED_INPUT, 3), (LONG_INPUT, None)])
def test_an_input_without_queries_that_is_copied(tmp_path: Path, schema: pa.Schema, limit: int | None) -> None:
    write_input(tmp_path / "in", [], schema)
    manifest, _ = rerank(config(tmp_path), limit=limit)
    assert manifest["queries"] == 0


def test_a_run_of_other_code_is_refused_with_both_versions(finished: Path) -> None:
    record = finished / "out" / "_run" / "run.json"
    begun = record.read_text()
    record.write_text(begun.replace(f'"version": "{__version__}"', '"version": "0.0.9"'))
    manifest, lines = rerank(config(finished), retry=["failed"])
    assert f"begun by 0.0.9, resumed by {__version__}" in lines
    assert manifest["info"]["versions"] == {"started": "0.0.9", "finished": __version__}
    record.write_text(begun.replace('"prompts": "', '"prompts": "another'))
    with pytest.raises(OutputError, match=rf"begun by {__version__}:\n  code\.prompts: .*\n.*--new-run"):
        rerank(config(finished))


@pytest.mark.parametrize("limit", [2, None])
def test_an_input_may_change_once_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    write_input(tmp_path / "in", [query(number) for number in range(3)])

    def change_input(*arguments: Any) -> Any:
        (tmp_path / "in" / "0.parquet").write_bytes(b"another")
        return arguments[-1], []

    monkeypatch.setattr("corpus_reranker.run.driver.run_passes", change_input)
    monkeypatch.setattr(ParquetSink, "finish", lambda *_: {"queries": limit})
    with contextlib.nullcontext() if limit else pytest.raises(InputError, match="changed during the run"):
        assert rerank(config(tmp_path), limit=limit)[0] == {"queries": 2}


def test_a_resumed_run_reads_the_table_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = DeltaTestTable(tmp_path / "table")
    table.append(pa.Table.from_pylist([query(number) for number in range(3)], NESTED_INPUT))
    job = config(tmp_path, f"--input.path={table.path}", "--input.format=delta")
    lines: list[str] = []
    read: list[int] = []

    def stop(run: RunContext, *_: Any) -> Any:
        read.append(len(read_query_ids(run.candidates)))
        raise RunError("stopped")

    monkeypatch.setattr("corpus_reranker.run.driver.run_passes", stop)
    for new_run, queries in ((False, 3), (False, 3), (True, 5)):
        with pytest.raises(RunError, match="stopped"):
            run_job(job, new_run=new_run, log=lines.append)
        assert read[-1] == queries
        if len(read) == 1:
            table.append(pa.Table.from_pylist([query(number) for number in (3, 4)], NESTED_INPUT))
    opened = [line.partition(",")[0] for line in lines if line.startswith("input: ")]
    assert opened == [f"input: Delta table {table.path} version {version}" for version in (0, 0, 1)]
    with pytest.raises(OutputError, match=r'input\.version: "1" -> "0"'):
        run_job(config(tmp_path, f"--input.path={table.path}", "--input.format=delta", "--input.version=0"))
    assert len(read) == 3


def test_the_manifest_names_the_version_of_the_table(tmp_path: Path) -> None:
    table = DeltaTestTable(tmp_path / "table")
    table.append(NESTED_INPUT.empty_table())
    job = config(tmp_path, f"--input.path={table.path}", "--input.format=delta")
    manifest, _ = rerank(job)
    assert manifest["info"]["input"] == open_source(job.input, job.storage).fingerprint_fields()
    assert manifest["info"]["input"]["version"] == "0"
    table.append(pa.Table.from_pylist([query(1)], NESTED_INPUT))
    assert [line.partition(": ")[0] for line in rerank(job)[1]] == ["input", "nothing to do"]


def test_files_that_are_not_data_are_named(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [])
    for name in ("notes.txt", "info.json", "_hidden.md"):
        (tmp_path / "in" / name).write_text("{}")
    _, lines = rerank(config(tmp_path))
    (skipped,) = [line for line in lines if "of the input skipped" in line]
    assert skipped.startswith("warning: 2 files of the input skipped, not data")
    assert all(f"/in/{name}" in skipped for name in ("notes.txt", "info.json"))
