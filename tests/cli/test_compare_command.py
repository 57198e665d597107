"""The command `compare`: screen, page, files, JSON, thresholds and refusals."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.io.schemas import NESTED_INPUT
from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import SCHEMA, output_row, write_data_files


def write_output(folder: Path, orders: dict[str, list[int]], strategy: str = "sliding_window", **metadata: str) -> Path:
    rows = [output_row(query_id, order, query=f"text of {query_id}") for query_id, order in orders.items()]
    metadata = {f"reranker.{key}": value for key, value in metadata.items()}
    write_data_files(folder, [rows[:1], rows[1:]], SCHEMA.with_metadata(metadata))
    fields = {"strategy": {"name": strategy, "window": 20}}
    (folder / "_run/run.json").write_text(json.dumps({"fingerprint_fields": fields, "queries": len(rows)}))
    return folder


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write_output(tmp_path / "a", {"1": [0, 1, 2], "2": [0, 1], "gone": [0]}, version="0.1.0", model="m")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return write_output(tmp_path / "b", {"2": [0, 1], "1": [2, 1, 0]}, "tournament", version="0.1.0", model="m-awq")


def compare(tmp_path: Path, a: Path, b: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, stdout, and the page."""
    result = run_command("compare", str(a), str(b), "--page", str(tmp_path / "page.html"), *options)
    assert result.exit_code in (0, 6), result.output
    return result.exit_code, result.stdout, (tmp_path / "page.html").read_text(encoding="utf-8")


def test_compare_prints_and_writes_what_has_changed(a: Path, b: Path, tmp_path: Path) -> None:
    code, screen, page = compare(tmp_path, a, b)
    assert code == 0
    for text in ("model: m -> m-awq", "strategy.name: sliding_window -> tournament", "1 only in A", "1 of 2 queries"):
        assert text in screen
    for text in ("tournament", "m-awq", "gone", "text of 1", "First document changed"):
        assert text in page
    assert "text of 2" not in page  # the ranking did not change
    assert "version" in page.partition("settings are the same")[2]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--min-tau=0", "--min-overlap=0.6"], 0),  # tau: (-1 + 1 + 0) / 3; overlap: (1 + 1 + 0) / 3
        (["--min-tau=0.01"], 6),
        (["--min-overlap=0.7"], 6),
        (["--compare.min_tau=1"], 6),
    ],
)
def test_thresholds_decide_the_exit_code(options: list[str], code: int, a: Path, b: Path, tmp_path: Path) -> None:
    exit_code, screen, page = compare(tmp_path, a, b, *options)
    assert exit_code == code
    assert ("compare.min" in screen) == (code == 6)
    assert ("Check failed" in page) == (code == 6)
    assert ("Check passed" in page) == (code == 0)


def test_an_output_agrees_with_itself(a: Path, tmp_path: Path) -> None:
    code, _, page = compare(tmp_path, a, a, "--min-tau=1", "--min-overlap=1")
    assert code == 0
    assert "No recorded setting differs" in page
    assert "No ranking changed" in page


def test_json_and_csv_hold_every_query_and_setting(a: Path, b: Path, tmp_path: Path) -> None:
    _, screen, _ = compare(tmp_path, a, b, "--json", f"--compare.csv_path={tmp_path}/c.csv")
    document = json.loads(screen)
    assert document["queries"] == {"same candidates": 2, "other candidates": 0, "only in A": 1, "only in B": 0}
    assert document["named"]["only in A"] == ["gone"]
    assert document["measures"]["Kendall tau"]["mean"] == 0.0
    assert {each["key"] for each in document["differences"]} == {"model", "strategy.name"}
    assert document["most_changed"][0]["top_a"] == [["d0", 3], ["d1", 2], ["d2", 1]]
    with (tmp_path / "c.csv").open(newline="") as lines:
        assert {row["query_id"]: row["tau"] for row in csv.DictReader(lines)} == {
            "1": "-1.000000",
            "2": "1.000000",
            "gone": "",
        }


def test_both_outputs_from_a_job_config(a: Path, b: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    compared = f"compare: {{baseline: '{tmp_path}/{{date}}', min_tau: 1, page_path: {tmp_path}/page.html}}"
    config.write_text(f"output: {{path: {b}}}\n{compared}\n")
    a.rename(tmp_path / "2026-11-25")
    assert run_command("compare", "--config", str(config), "--date", "2026-11-25").exit_code == 6
    assert "2026-11-25" in (tmp_path / "page.html").read_text()


def test_qrels_add_the_difference_of_ndcg(a: Path, b: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 d0 1\n2 0 d0 1\ngone 0 d0 1\n")
    _, screen, page = compare(tmp_path, a, b, "--qrels", str(tmp_path / "qrels"), "--json")
    change = json.loads(screen)["nDCG@10"]
    assert (change["system"], change["baseline"], change["losses"], change["ties"]) == ("B", "A", 2, 1)
    assert change["difference"] == pytest.approx((0.5 - 1 + 1 - 1 + 0 - 1) / 3)
    assert "nDCG@10, B − A" in page
    assert "1 in B" in page


def test_passages_are_on_the_page_only_if_requested(a: Path, b: Path, tmp_path: Path) -> None:
    passages = [{"doc_id": f"d{each}", "text": f"<passage> {each}", "title": None, "score": 0.0} for each in range(3)]
    rows = [{"query_id": each, "query": each, "candidates": passages} for each in ("1", "2", "gone")]
    pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), tmp_path / "in.parquet")
    assert "&lt;passage&gt; 2" in compare(tmp_path, a, b, "--input", str(tmp_path / "in.parquet"))[2]
    assert "passage&gt;" not in compare(tmp_path, a, b)[2]


def test_hostile_ids_are_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    a = write_output(tmp_path / "a", {"1": [0, 1], hostile: [0, 1], f"{hostile}2": [0]}, model=hostile)
    b = write_output(tmp_path / "b", {"1": [0, 1], hostile: [1, 0]}, hostile)
    page = compare(tmp_path, a, b)[2]
    assert page.count("&lt;script&gt;") >= 4
    assert "<script" not in page


def test_unfinished_and_simulated_outputs_are_refused(a: Path, tmp_path: Path) -> None:
    b = write_output(tmp_path / "b", {"1": [0, 1, 2], "2": [0, 1]}, simulated="true")
    (b / "_SUCCESS").unlink()
    for first, second in ((a, b), (b, a)):
        command = ["compare", str(first), str(second), "--page", str(tmp_path / "page.html")]
        check_refused(run_command(*command), "b is not finished")
        check_refused(run_command(*command, "--allow-unfinished"), "b: its engine was scripted or simulated")
        assert run_command(*command, "--allow-unfinished", "--allow-simulated").exit_code == 0
        page = (tmp_path / "page.html").read_text()
        assert "has not finished" in page
        assert "No LLM ranked" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OUTPUT", "absent"], "absent does not exist"),
        (["OUTPUT"], "output.path: missing"),
        ([], "compare.baseline: missing"),
        (["OUTPUT", "OUTPUT", "--min-tau=2"], "compare.min_tau"),
        (["OUTPUT", "OUTPUT", "--qrels", "absent"], "no such file: "),
        (["OUTPUT", "OTHER"], "no query is in both outputs"),
    ],
)
def test_wrong_arguments_of_compare_are_refused(
    arguments: list[str], message: str, a: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"OUTPUT": str(a), "OTHER": str(write_output(tmp_path / "other", {"x": [0]}))}
    check_refused(run_command("compare", *(paths.get(argument, argument) for argument in arguments)), message)
    assert not list(tmp_path.glob("*.html"))
