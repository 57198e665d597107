"""The command `report`: options, job config and refusals."""

from pathlib import Path

import pytest

from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import output_row, simulated_rows, write_data_files


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return write_data_files(tmp_path / "out", [simulated_rows(3), [output_row("extra", [1, 0])]])


def test_the_page_is_written_into_the_output(output: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("extra 0 d1 1\n")
    options = ["--qrels", str(tmp_path / "qrels.txt"), "--gpus", "2", "--price-per-gpu-hour", "3"]
    result = run_command("report", f"{output}/", *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"{output}/_run/report.html"
    page = (output / "_run/report.html").read_text()
    assert "nDCG@10 after" in page
    assert "USD per 1,000 queries" in page
    assert sorted(path.name for path in (output / "_run").iterdir()) == ["report.html"]


def test_everything_from_a_job_config(output: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(f"output: {{path: {output}}}\nreport: {{currency: EUR, price_per_gpu_hour: 1.5, gpus: 1}}\n")
    assert run_command("report", "--config", str(config)).exit_code == 0
    assert "EUR per 1,000 queries" in (output / "_run/report.html").read_text()


def test_qrels_default_to_those_of_the_section_evaluate(output: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("extra 0 d1 1\n")
    config = tmp_path / "job.yaml"
    config.write_text(f"output: {{path: {output}}}\nevaluate: {{qrels: {tmp_path / 'qrels.txt'}}}\n")
    assert run_command("report", "--config", str(config)).exit_code == 0
    assert "nDCG@10 after" in (output / "_run/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent does not exist"),
        (["OUTPUT", "--qrels", "absent"], "no such file: "),
        (["OUTPUT", "--price-per-gpu-hour", "-1"], "report.price_per_gpu_hour"),
        ([], "output.path: missing"),
    ],
)
def test_wrong_arguments_of_report_are_refused(arguments: list[str], message: str, output: Path) -> None:
    given = [str(output) if argument == "OUTPUT" else argument for argument in arguments]
    check_refused(run_command("report", *given), message)
