"""The command `export`: formats, job config and refusals."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import output_row, write_data_files


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return write_data_files(tmp_path / "out", [[output_row("1", [2, 0, 1])], [output_row("2", [1, 0])]])


def test_trec(output: Path, tmp_path: Path) -> None:
    options = ["--to", "trec", "--destination", str(tmp_path / "to"), "--tag", "mine", "--json"]
    result = run_command("export", str(output), *options)
    assert result.exit_code == 0, result.output
    exported = json.loads(result.stdout)
    assert (exported["queries"], exported["records"], len(exported["files"])) == (2, 10, 2)
    assert (tmp_path / "to/reranked/rankings.trec").read_text().splitlines()[0] == "1 Q0 d2 1 3.0 mine"


def test_triples_with_texts(output: Path, tmp_path: Path) -> None:
    candidates = [
        {
            "query_id": query_id,
            "query": f"text {query_id}",
            "candidates": [{"doc_id": f"d{index}", "text": f"passage {index}", "score": 1.0} for index in range(3)],
        }
        for query_id in "12"
    ]
    pq.write_table(pa.Table.from_pylist(candidates), tmp_path / "candidates.parquet")
    options = ["--to", "triples", "--destination", str(tmp_path / "to")]
    options += ["--input", str(tmp_path / "candidates.parquet"), "--min-negative-rank", "2", "--negatives", "1"]
    result = run_command("export", str(output), *options, "--status", "complete")
    assert result.exit_code == 0, result.output
    assert "labels: 2 queries by rank\n" in result.stdout
    triple = json.loads((tmp_path / "to/train/rankings.jsonl").read_text().splitlines()[1])
    assert triple == {
        "query_id": "2",
        "query": "text 2",
        "positive": {"doc_id": "d1", "label": 1.0, "text": "passage 1"},
        "negatives": [{"doc_id": "d0", "label": 0.5, "text": "passage 0"}],
        "label_source": "rank",
    }


def test_triples_with_texts_of_renamed_columns(output: Path, tmp_path: Path) -> None:
    """`input.columns` and `input.cast_ids` of the config hold for the candidates of an export, too."""
    candidates = [{"docno": f"d{index}", "passage": f"passage {index}"} for index in range(3)]
    rows = [{"qid": number, "query": f"text {number}", "candidates": candidates} for number in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "candidates.parquet")
    config = tmp_path / "job.yaml"
    config.write_text(
        "input: {path: elsewhere, columns: {query_id: qid, doc_id: docno, text: passage}, cast_ids: true}\n"
        f"export: {{to: triples, input: {tmp_path}/candidates.parquet, destination: {tmp_path}/to}}"
    )
    result = run_command("export", str(output), "--config", str(config), "--min-negative-rank", "2", "--negatives", "1")
    assert result.exit_code == 0, result.output
    triple = json.loads((tmp_path / "to/train/rankings.jsonl").read_text().splitlines()[1])
    assert (triple["query"], triple["positive"]["text"]) == ("text 2", "passage 1")


def test_everything_from_a_job_config(output: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(
        f"output: {{path: {output}}}\nexport: {{to: vespa, destination: {tmp_path / 'to'}, index: mine}}\n"
    )
    export = ("export", "--config", str(config))
    result = run_command(*export)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/to: 2 queries, 2 records, 2 files\n"), result.output
    assert '"id:rankings:mine::1"' in (tmp_path / "to/part-00000.jsonl").read_text()
    check_refused(run_command(*export), "not empty")
    assert run_command(*export, "--overwrite").exit_code == 0


def test_skipped_queries_are_counted_and_named(tmp_path: Path) -> None:
    rows = [output_row("1", [1, 0]), output_row("2", [0], status="failed")]
    rows[0]["ranking"][0]["doc_id"] = "a b"
    output = write_data_files(tmp_path / "out", [rows])
    result = run_command("export", str(output), "--to", "trec", "--destination", str(tmp_path / "to"))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1] == (
        "skipped: 1 status failed ('2'), 1 doc_id with white space ('a b'); see _skipped.jsonl"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--to", "trec", "--destination", "TO"], "absent does not exist"),
        (["OUTPUT", "--to", "trec"], "export.destination: missing"),
        (["OUTPUT", "--to", "trec", "--destination", "OUTPUT"], "overlap; choose another destination"),
        (["OUTPUT", "--to", "triples", "--destination", "TO", "--min-negative-rank", "2"], "name its candidates"),
        (["OUTPUT", "--to", "triples", "--destination", "TO", "--status", "done"], "export.statuses"),
    ],
)
def test_wrong_arguments_of_export_are_refused(
    arguments: list[str], message: str, output: Path, tmp_path: Path
) -> None:
    paths = {"OUTPUT": str(output), "TO": str(tmp_path / "to")}
    check_refused(run_command("export", *(paths.get(argument, argument) for argument in arguments)), message)
