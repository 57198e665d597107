"""The command `calibrate`, and the use of its file by `export` and `evaluate`."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

QUERIES = range(8)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    rows = [output_row(str(number), [2, 0, 1, 3]) for number in QUERIES]
    schema = SCHEMA.with_metadata({"reranker.fingerprint": "f"})
    return write_data_files(tmp_path / "out", [rows[:3], rows[3:]], schema)


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    """The first document is relevant for every query, the second for every other one."""
    lines = [f"{number} 0 d2 1\n{number} 0 d0 {number // 2 % 2}\n{number} 0 d1 0\n" for number in QUERIES]
    (tmp_path / "qrels").write_text("".join(lines))
    return tmp_path / "qrels"


@pytest.fixture
def calibration(output: Path, qrels: Path, tmp_path: Path) -> Path:
    options = ["--model", str(tmp_path / "c.json"), "--page", str(tmp_path / "c.html")]
    result = run_command("calibrate", str(output), "--qrels", str(qrels), *options)
    assert result.exit_code == 0, result.output
    assert "24 judged pairs of 8 queries" in result.stdout
    assert "depends on the rank alone" in result.stdout
    return tmp_path / "c.json"


def test_calibrate_writes_a_model_and_a_page_and_prints_json(
    calibration: Path, output: Path, qrels: Path, tmp_path: Path
) -> None:
    assert json.loads(calibration.read_text())["parameters"] == {
        "scores": [-3.0, -2.0, -1.0],
        "probabilities": [0.0, 0.5, 1.0],
    }
    page = (tmp_path / "c.html").read_text()
    assert "Rank-derived" in page
    assert "<script" not in page
    options = [f"--calibrate.model_path={tmp_path}/d.json", f"--calibrate.page_path={tmp_path}/d.html", "--json"]
    document = json.loads(run_command("calibrate", str(output), "--qrels", str(qrels), *options).stdout)
    assert (document["score"], document["rank_derived"], document["pairs"]) == ("rank", True, 24)
    assert document["after"]["ece"] == 0  # both halves have the same judgments
    assert document["before"]["ece"] == pytest.approx(0)


def test_export_writes_probabilities_and_cuts_off(calibration: Path, output: Path, tmp_path: Path) -> None:
    export = ["export", str(output), "--calibration", str(calibration), "--min-p-relevant=0.5"]
    result = run_command(*export, "--to=parquet", f"--destination={tmp_path}/long")
    assert result.exit_code == 0, result.output
    assert "skipped below min_p_relevant: 16 documents" in result.stdout
    rows = [row for file in sorted((tmp_path / "long").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert [(row["doc_id"], row["rank"], row["p_relevant"]) for row in rows] == [("d2", 1, 1.0), ("d0", 2, 0.5)] * 8
    assert run_command(*export, "--to=vespa", f"--destination={tmp_path}/feed").exit_code == 0
    document = json.loads((tmp_path / "feed/part-00000.jsonl").read_text().splitlines()[0])["fields"]
    assert [entry["p_relevant"] for entry in document["ranking"]] == [1.0, 0.5]


def test_evaluate_scores_what_the_cutoff_keeps(calibration: Path, output: Path, qrels: Path) -> None:
    options = ["--calibration", str(calibration), "--min-p-relevant=0.9", "--measures=SetP", "--json"]
    result = run_command("evaluate", str(output), "--qrels", str(qrels), *options)
    means = {mean["system"]: mean["mean"] for mean in json.loads(result.stdout)["means"]}
    assert means == {"out before": 0.375, "out after": 0.375, "out kept": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "OUTPUT"], "calibrate.qrels: missing"),
        (["calibrate", "OUTPUT", "--qrels=QRELS", "--score=score"], "derived from the rank"),
        (["calibrate", "OUTPUT", "--qrels=QRELS", "--score=no_such"], "has no field 'no_such'"),
        (["calibrate", "OUTPUT", "--qrels=QRELS", "--score=llm_score"], "llm_score is null for every judged document"),
        (["calibrate", "OUTPUT", "--qrels=QRELS", "--min-relevance=2"], "too few judged pairs"),
        (["calibrate", "OUTPUT", "--qrels=QRELS", "--method=beta"], "calibrate.method"),
        (["export", "OUTPUT", "--to=trec", "--destination=DEST", "--min-p-relevant=0.5"], "out has no p_relevant"),
        (["export", "OUTPUT", "--to=trec", "--destination=DEST", "--calibration=QRELS"], "is not a calibration"),
        (["evaluate", "OUTPUT", "--qrels=QRELS", "--min-p-relevant=0.5"], "out has no p_relevant"),
        (["evaluate", "OUTPUT", "--qrels=QRELS", "--calibration=QRELS"], "calibration needs min_p_relevant"),
    ],
)
def test_wrong_arguments_of_calibrate_are_refused(
    arguments: list[str], message: str, output: Path, qrels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"OUTPUT": str(output), "QRELS": str(qrels), "DEST": str(tmp_path / "to")}
    given = [f"{key}{sign}{paths.get(value, value)}" for key, sign, value in (a.rpartition("=") for a in arguments)]
    check_refused(run_command(*given), message)
    assert not list(tmp_path.glob("*.html"))


def test_other_settings_and_simulated_outputs_are_refused(
    calibration: Path, output: Path, qrels: Path, tmp_path: Path
) -> None:
    metadata = {"reranker.fingerprint": "other", "reranker.simulated": "true"}
    other = write_data_files(tmp_path / "other", [[output_row("0", [0, 1])]], SCHEMA.with_metadata(metadata))
    check_refused(run_command("calibrate", str(other), "--qrels", str(qrels)), "--allow-simulated")
    export = ["export", str(other), "--allow-simulated", "--to=parquet", f"--destination={tmp_path}/to"]
    check_refused(run_command(*export, "--calibration", str(calibration)), "other has other settings")
