"""`rerank --dry-run` refuses what a run refuses, accepts what it accepts, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.evaluation.candidate_texts import CandidateTexts
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.schemas import LONG_INPUT, NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.paths import PROMPTS_DIRECTORY
from corpus_reranker.run.fingerprint import run_fingerprint
from helpers.command_line import check_refused, run_command
from helpers.runs import query, write_input

pytestmark = pytest.mark.usefixtures("no_subprocess")

LONG = [
    {"query_id": "q", "query": text, "doc_id": doc_id, "text": "passage", "score": 1.0}
    for doc_id, text in (("d1", "one"), ("d2", "another"))
]


def options(folder: Path, *more: str) -> list[str]:
    return [f"--input.path={folder}/in", f"--output.path={folder}/out", "--engine.kind=scripted", *more]


def dry_run(folder: Path, *more: str) -> Any:
    return run_command("rerank", "--dry-run", *options(folder, *more))


def sink(folder: Path) -> ParquetSink:
    return ParquetSink(OutputConfig(path=f"{folder}/out"), StorageConfig())


def begin(folder: Path, *more: str) -> None:
    """Begin the run of these options, as its driver does."""
    config = load_config(None, options(folder, *more))
    source = open_source(config.input, config.storage)
    with IsolatedProcess() as isolated:
        fingerprint = run_fingerprint(config, source, None, None, isolated)
    sink(folder).begin(fingerprint.fields, 2, config_yaml="", info=fingerprint.info)


def test_a_column_with_values_that_python_lacks_passes_through(tmp_path: Path) -> None:
    """DuckDB and PostgreSQL have the timestamp `infinity`; Python's last year is 9999."""
    infinity = pa.field("until", pa.timestamp("us"))
    write_input(tmp_path / "in", [query(0, until=2**62)], NESTED_INPUT.append(infinity))
    result = dry_run(tmp_path)
    assert result.exit_code == 0, result.output
    assert "passage 0 of q0000" in result.output
    assert CandidateTexts(InputConfig(path=f"{tmp_path}/in"), StorageConfig()).find("q0000").passages


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0), query(1)])
    (tmp_path / "in" / "notes.txt").touch()
    result = dry_run(tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 Parquet file, 2 queries (nested form)" in result.output
    assert "1 file of the input skipped, not data" in result.output
    assert "passage 0 of q0000" in result.output
    assert "failed rows" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [query(0, candidates=[]), query(1)],
            ["before the first readable query: 1; the first: query 'q0000': candidates", "passage 0 of q0001"],
        ),
        ([query(0, candidates=[])], ["no readable query"]),
        ([], ["no readable query"]),
    ],
)
def test_rows_that_fail_are_accepted(tmp_path: Path, rows: list[dict[str, Any]], expected: list[str]) -> None:
    write_input(tmp_path / "in", rows)
    result = dry_run(tmp_path)
    assert result.exit_code == 0, result.output
    for text in expected:
        assert text in result.output


def test_a_column_that_the_template_shows(tmp_path: Path) -> None:
    template = (PROMPTS_DIRECTORY / "reasonrank.yaml").read_text(encoding="utf-8")
    shows_task = template.replace('before_passages: "', 'before_passages: "Task: {column:task}\\n')
    (tmp_path / "own.yaml").write_text(shows_task, encoding="utf-8")
    own = f"--prompt.template={tmp_path}/own.yaml"
    write_input(tmp_path / "in", [query(0)])
    check_refused(dry_run(tmp_path, own), "the prompt template shows the column 'task', which the input lacks")
    schema = NESTED_INPUT.append(pa.field("task", pa.string()))
    write_input(tmp_path / "in", [query(0) | {"task": None}, query(1) | {"task": "find it"}], schema)
    result = dry_run(tmp_path, own)
    assert "the first: query 'q0000': task is null" in result.output
    assert "Task: find it" in result.output


def test_ids_and_contradictions(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0), query(1), query(1)])
    check_refused(dry_run(tmp_path), "'q0001' in row 1 of ")
    check_refused(dry_run(tmp_path, "--limit=3"), "query_ids occur more than once, 'q0001' in row")
    assert dry_run(tmp_path, "--limit=2").exit_code == 0  # a run of two queries does not read the third
    write_input(tmp_path / "in", LONG, LONG_INPUT)
    check_refused(dry_run(tmp_path), "query_id 'q' has two texts, 'one' and 'another'")


def test_an_output_of_another_run(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0), query(1)])
    begin(tmp_path)
    assert dry_run(tmp_path).exit_code == 0
    other = ("--strategy={window: 4, stride: 2}",)
    check_refused(dry_run(tmp_path, *other), "holds a run with other settings")
    assert dry_run(tmp_path, *other, "--new-run").exit_code == 0


def test_an_output_that_a_live_run_holds(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    with sink(tmp_path).lease():
        check_refused(dry_run(tmp_path), "is written by process ")
    assert dry_run(tmp_path).exit_code == 0


def no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "out").touch()


def no_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)


@pytest.mark.parametrize(("fault", "message"), [(no_folder, "in the way"), (no_permission, "no permission")])
def test_an_output_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Path, pytest.MonkeyPatch], None], message: str
) -> None:
    write_input(tmp_path / "in", [query(0)])
    fault(tmp_path, monkeypatch)
    check_refused(dry_run(tmp_path), message)


def test_a_function_that_cannot_be_loaded(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    check_refused(dry_run(tmp_path, "--engine.answers=nosuch:answers"), "ModuleNotFoundError: No module named 'nosuch'")
    known = "--engine.answers=corpus_reranker.engines.scripted:keep_order"
    check_refused(dry_run(tmp_path, known, "--engine.arguments={nosuch: 1}"), "engine.answers: cannot load ")


def test_the_function_of_a_scripted_engine_is_not_called_by_the_driver(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    answers = "--engine.answers=helpers.gated_answers:second_starts_late"
    result = dry_run(tmp_path, answers, f"--engine.arguments={{log: '{tmp_path}/log', requested: 4, total: 8}}")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "log").exists()
