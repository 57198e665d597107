"""The status command over outputs of every kind."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from corpus_reranker.cli.status import app
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.schemas import NESTED_INPUT, output_schema
from corpus_reranker.io.sinks.output import Output
from helpers.scenario import make_scenario

run = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    return make_scenario(tmp_path, queries=4).config


def write_rows(output: Output, name: str, statuses: dict[str, str]) -> pa.Schema:
    """A data file with these queries in it, which have no windows."""
    schema = output_schema(NESTED_INPUT, {})
    empty: dict[str, Any] = {
        "query": "",
        "ranking": [],
        "windows": [],
        "error": None,
        "started_at": None,
        "finished_at": None,
    }
    rows = [{"query_id": query_id, "status": status, **empty} for query_id, status in statuses.items()]
    pq.write_table(pa.Table.from_pylist(rows, schema), f"{output.folder}/part-{name}.parquet")
    return schema


def test_where_nothing_has_begun(config: JobConfig) -> None:
    result = run.invoke(app, [config.output.path])
    assert (result.exit_code, result.output) == (4, f"{config.output.path}: no run has begun here\n")


def test_a_run_from_its_beginning_to_its_end(config: JobConfig) -> None:
    output = Output(config.output, config.storage)
    query_ids = pa.chunked_array([["q0000", "q0001", "q0002", "q0003"]])
    with output.lease():
        output.begin({"model": "m"}, 4, config_yaml="")
        write_rows(output, "a", {"q0000": "complete", "q0001": "failed"})
        result = run.invoke(app, [config.output.path])
        assert result.exit_code == 4
        assert "not finished, run " in result.output
        assert "done: 2 of 4 queries (1 complete, 1 failed); 2 remain" in result.output
        assert "written by: process " in result.output
    result = run.invoke(app, [config.output.path, "--json"])
    assert result.exit_code == 4
    status = json.loads(result.output)
    assert (status["finished"], status["by_status"], status["holder"]) == (False, {"complete": 1, "failed": 1}, None)
    schema = write_rows(output, "b", {"q0002": "complete", "q0003": "complete"})
    output.finish(output.prepare(query_ids), schema)
    result = run.invoke(app, [config.output.path])
    assert result.exit_code == 0
    assert ": finished, run " in result.output
    assert "done: 4 of 4 queries (3 complete, 1 failed); 0 remain" in result.output
    assert "written by: nobody now" in result.output
    result = run.invoke(app, [config.output.path, "--json"])
    assert json.loads(result.output)["manifest"]["queries"] == 4


def test_what_cannot_be_read_is_2(tmp_path: Path) -> None:
    result = run.invoke(app, ["nosuch://place/out"])
    assert result.exit_code == 2
    assert "no installed library reads nosuch://place/out" in result.output
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run" / "run.json").write_text("[]")
    result = run.invoke(app, [str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a run of this program's version" in result.output
