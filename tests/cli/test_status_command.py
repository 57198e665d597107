"""The command `status` on every kind of output."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.quarantine import QuarantineWriter
from corpus_reranker.io.schemas import NESTED_INPUT, output_schema
from corpus_reranker.io.settings import OutputConfig
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.types import RerankResult, WindowOutcome
from helpers.command_line import check_refused, run_command
from helpers.locations import Location
from helpers.outputs import SCHEMA, write_data_file
from helpers.scenario import make_scenario


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    return make_scenario(tmp_path, queries=4).config


def write_rows(sink: ParquetSink, name: str, statuses: dict[str, str]) -> pa.Schema:
    """Write a data file with these queries, which have no windows."""
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
    layout = sink.layout
    layout.filesystem.create_dir(layout.parts_folder, recursive=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), f"{layout.parts_folder}/{layout.data_file_prefix}{name}.parquet")
    return schema


def test_an_output_without_a_run(config: JobConfig) -> None:
    result = run_command("status", config.output.path)
    assert (result.exit_code, result.output) == (4, f"{config.output.path}: no run has started here\n")


def test_a_folder_of_candidates(config: JobConfig) -> None:
    result = run_command("status", config.input.path)
    assert (result.exit_code, result.output) == (4, f"{config.input.path}: no run has started here\n")


def test_a_run_from_start_to_finish(config: JobConfig) -> None:
    sink = ParquetSink(config.output, config.storage)
    query_ids = pa.chunked_array([["q0000", "q0001", "q0002", "q0003"]])
    with sink.lease():
        sink.begin({"model": "m"}, 4, config_yaml="")
        write_rows(sink, "a", {"q0000": "complete", "q0001": "failed"})
        result = run_command("status", config.output.path)
        assert result.exit_code == 4
        assert "not finished, run " in result.output
        assert "done: 2 of 4 queries (1 complete, 1 failed); 2 remain" in result.output
        assert "writer: process " in result.output
    result = run_command("status", config.output.path, "--json")
    assert result.exit_code == 4
    status = json.loads(result.output)
    assert (status["finished"], status["by_status"], status["holder"]) == (False, {"complete": 1, "failed": 1}, None)
    schema = write_rows(sink, "b", {"q0002": "complete", "q0003": "complete"})
    sink.finish(sink.prepare(query_ids), schema)
    result = run_command("status", config.output.path)
    assert result.exit_code == 0
    assert ": finished, run " in result.output
    assert "done: 4 of 4 queries (3 complete, 1 failed); 0 remain" in result.output
    assert "failed: 1 x no reason given\n" in result.output
    assert "writer: none" in result.output
    result = run_command("status", config.output.path, "--json")
    assert json.loads(result.output)["manifest"]["queries"] == 4


def test_flagged_answers_of_a_finished_run(local_location: Location) -> None:
    location = local_location
    sink = ParquetSink(OutputConfig(path=location.url + "/out"), location.storage)
    with sink.lease():
        sink.begin({"model": "m"}, 1, config_yaml="")
        write_data_file(location, "part-0.parquet", ["a"])
        sink.finish(sink.prepare(pa.chunked_array([["a"]])), SCHEMA)
    assert "flagged answers: 1 input_order\n" in run_command("status", location.url + "/out").output


async def test_windows_in_quarantine(local_location: Location) -> None:
    layout = Layout.of(local_location.output(), local_location.storage)
    status = ("status", layout.url, "--quarantine")
    assert run_command(*status).output == f"{layout.url}: no window is in quarantine\n"
    writer = QuarantineWriter(layout)
    for number in range(25):
        window = WindowOutcome(0, 20, "truncated", 2, 1, 1, 0.1, "length", prompt="a prompt", response=f"hm\n{number}")
        await writer.write(RerankResult(f"q{number}", "failed", (0,), (window,)))
    printed = run_command(*status).stdout
    assert printed.count("window [0, 20): truncated, 2 attempts, finish reason length\n    response: hm\n    ") == 20
    assert printed.endswith("and 5 more; --json prints all, with their prompts\n")
    assert "a prompt" not in printed
    windows = json.loads(run_command(*status, "--json").stdout)
    assert {window["query_id"] for window in windows} == {f"q{number}" for number in range(25)}
    assert windows[0]["prompt"] == "a prompt"


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    unknown_scheme = "nosuch://folder/out"
    check_refused(run_command("status", unknown_scheme), f"no installed library reads {unknown_scheme}")
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run" / "run.json").write_text("[]")
    check_refused(run_command("status", str(tmp_path)), "was not written by this version of the program")
    check_refused(run_command("status"), "output.path: missing")
