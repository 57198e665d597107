"""The command `evaluate`: tables, files, JSON and refusals."""

import csv
import json
from pathlib import Path

import pytest

from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import SCHEMA, output_row, write_data_files


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    path = tmp_path / "qrels.txt"
    path.write_text("1 0 d2 1\n2 0 d1 1\n4 0 d0 1\n")
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return write_data_files(
        tmp_path / "out", [[output_row("1", [2, 0, 1])], [output_row("2", [1, 0]), output_row("3", [0])]]
    )


def test_evaluate_prints_tables_and_writes_files(output: Path, qrels: Path, tmp_path: Path) -> None:
    files = [f"--evaluate.json_path={tmp_path}/e.json", "--evaluate.csv_path", f"{tmp_path}/e.csv"]
    result = run_command("evaluate", str(output), "--qrels", str(qrels), "--measures", "RR@10,nDCG@10", *files)
    assert result.exit_code == 0, result.output
    assert "out before" in result.stdout
    assert "0.2778" in result.stdout  # RR before: (1/3 + 1/2 + 0) / 3
    assert "0.6667" in result.stdout  # RR after: (1 + 1 + 0) / 3
    assert "1 of 3 judged queries missing, counted as 0" in result.stdout

    written = json.loads((tmp_path / "e.json").read_text())
    assert written["measures"] == ["RR@10", "nDCG@10"]
    assert written["per_query"]["out after"]["1"] == {"RR@10": 1.0, "nDCG@10": 1.0}
    assert written["missing_queries"] == {"out before": 1, "out after": 1}
    with (tmp_path / "e.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 2 * 2 * 3
    assert float(rows[0]["value"]) == pytest.approx(1 / 3)


def test_json_on_stdout_is_what_the_file_holds(output: Path, qrels: Path, tmp_path: Path) -> None:
    options = ["--qrels", str(qrels), f"--evaluate.json_path={tmp_path}/e.json", "--json"]
    result = run_command("evaluate", str(output), *options)
    assert json.loads(result.stdout) == json.loads((tmp_path / "e.json").read_text())


def test_outputs_and_runs_side_by_side(output: Path, qrels: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.run"
    other.write_text("1 Q0 d2 1 2.0 x\n2 Q0 d0 1 2.0 x\n")
    options = ["--qrels", str(qrels), "--measures", "RR", "--baseline", "other.run"]
    result = run_command("evaluate", str(output), str(other), *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("other.run") >= 3


def test_paths_and_settings_from_a_job_config(output: Path, qrels: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(
        f"output: {{path: '{tmp_path}/{{date}}'}}\n"
        f"evaluate: {{qrels: {qrels}, measures: [P@1], json_path: {tmp_path / 'e.json'}}}\n"
    )
    output.rename(tmp_path / "2026-11-25")
    result = run_command("evaluate", "--config", str(config), "--date", "2026-11-25", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "e.json").read_text())["measures"] == ["P@1"]
    check_refused(run_command("evaluate", "--config", str(config)), "output.path contains {date}; give --date")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--qrels", "QRELS"], "absent"),
        (["OUTPUT", "--qrels", "absent"], "absent"),
        (["OUTPUT"], "evaluate.qrels: missing"),
        (["OUTPUT", "--qrels", "QRELS", "--measures", "nDGC"], "cannot compute measure 'nDGC'"),
        (["OUTPUT", "--qrels", "QRELS", "--baseline", "x"], "no system is named 'x'"),
        (["--qrels", "QRELS"], "output.path: missing"),
    ],
)
def test_wrong_arguments_of_evaluate_are_refused(arguments: list[str], message: str, output: Path, qrels: Path) -> None:
    paths = {"OUTPUT": str(output), "QRELS": str(qrels)}
    check_refused(run_command("evaluate", *(paths.get(argument, argument) for argument in arguments)), message)


def test_a_query_without_a_ranking_counts_as_missing(output: Path, qrels: Path, tmp_path: Path) -> None:
    empty = write_data_files(tmp_path / "empty", [[output_row("1", [2, 0, 1]), output_row("2", [], status="failed")]])
    result = run_command("evaluate", str(empty), "--qrels", str(qrels), "--json")  # the default measures
    assert result.exit_code == 0, result.output
    evaluation = json.loads(result.stdout)
    assert evaluation["missing_queries"] == {"empty before": 2, "empty after": 2}
    assert evaluation["per_query"]["empty after"]["2"] == dict.fromkeys(evaluation["measures"], 0.0)


def test_unfinished_and_simulated_outputs_are_named(qrels: Path, tmp_path: Path) -> None:
    schema = SCHEMA.with_metadata({"reranker.simulated": "true"})
    output = write_data_files(tmp_path / "out", [[output_row("1", [2, 0, 1])]], schema)
    (output / "_SUCCESS").unlink()
    evaluate = ("evaluate", str(output), "--qrels", str(qrels))
    check_refused(run_command(*evaluate), "is not finished")
    result = run_command(*evaluate, "--allow-unfinished")
    assert result.exit_code == 0, result.output
    assert "out: no model ranked it: its engine was scripted or simulated." in result.stdout
    assert json.loads(run_command(*evaluate, "--allow-unfinished", "--json").stdout)["simulated"] == ["out"]


def test_names_that_look_like_markup_are_printed_unchanged(qrels: Path, tmp_path: Path) -> None:
    (tmp_path / "[red]a[link]").write_text("1 Q0 d2 1 2.0 x\n")
    result = run_command("evaluate", str(tmp_path / "[red]a[link]"), "--qrels", str(qrels))
    assert "[red]a[link]" in result.stdout
