import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corpus_reranker.cli.evaluate import app
from helpers.synthetic_output import output_row, write_data_files

run = CliRunner()


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


def test_before_and_after_on_screen_and_in_files(output: Path, qrels: Path, tmp_path: Path) -> None:
    result = run.invoke(
        app,
        [
            str(output),
            "--qrels",
            str(qrels),
            "--measures",
            "RR@10,nDCG@10",
            "--json",
            str(tmp_path / "e.json"),
            "--csv",
            str(tmp_path / "e.csv"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "out before" in result.output
    assert "0.2778" in result.output  # RR before: (1/3 + 1/2 + 0) / 3
    assert "0.6667" in result.output  # RR after: (1 + 1 + 0) / 3
    assert "1 of 3 judged queries missing, counted as 0" in result.output

    written = json.loads((tmp_path / "e.json").read_text())
    assert written["measures"] == ["RR@10", "nDCG@10"]
    assert written["per_query"]["out after"]["1"] == {"RR@10": 1.0, "nDCG@10": 1.0}
    assert written["missing_queries"] == {"out before": 1, "out after": 1}
    with (tmp_path / "e.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 2 * 2 * 3
    assert float(rows[0]["value"]) == pytest.approx(1 / 3)


def test_outputs_and_runs_side_by_side(output: Path, qrels: Path, tmp_path: Path) -> None:
    (tmp_path / "other.run").write_text("1 Q0 d2 1 2.0 x\n2 Q0 d0 1 2.0 x\n")
    result = run.invoke(
        app,
        [
            str(output),
            str(tmp_path / "other.run"),
            "--qrels",
            str(qrels),
            "--measures",
            "RR",
            "--baseline",
            "other.run",
        ],
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("other.run") >= 3


def test_paths_and_settings_from_a_job_config(output: Path, qrels: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(
        f"output: {{path: {output}}}\nevaluate: {{qrels: {qrels}, measures: [P@1], json_path: {tmp_path / 'e.json'}}}\n"
    )
    result = run.invoke(app, ["--config", str(config), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "e.json").read_text())["measures"] == ["P@1"]


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
def test_what_is_wrong_is_one_readable_message_and_exit_code_2(
    arguments: list[str], message: str, output: Path, qrels: Path
) -> None:
    paths = {"OUTPUT": str(output), "QRELS": str(qrels)}
    result = run.invoke(app, [paths.get(argument, argument) for argument in arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_names_that_look_like_markup_are_shown_as_they_are(qrels: Path, tmp_path: Path) -> None:
    (tmp_path / "[red]a[link]").write_text("1 Q0 d2 1 2.0 x\n")
    result = run.invoke(app, [str(tmp_path / "[red]a[link]"), "--qrels", str(qrels)])
    assert "[red]a[link]" in result.output
