import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from corpus_reranker.cli.export import app
from helpers.synthetic_output import output_row, write_data_files

run = CliRunner()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return write_data_files(tmp_path / "out", [[output_row("1", [2, 0, 1])], [output_row("2", [1, 0])]])


def test_trec(output: Path, tmp_path: Path) -> None:
    result = run.invoke(
        app, [str(output), "--to", "trec", "--destination", str(tmp_path / "to"), "--tag", "mine", "--single-file"]
    )
    assert result.exit_code == 0, result.output
    assert "2 queries -> 10 records in 2 files" in result.output
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
    result = run.invoke(
        app,
        [
            str(output),
            "--to",
            "triples",
            "--destination",
            str(tmp_path / "to"),
            "--input",
            str(tmp_path / "candidates.parquet"),
            "--min-negative-rank",
            "2",
            "--negatives",
            "1",
            "--status",
            "complete",
        ],
    )
    assert result.exit_code == 0, result.output
    (triple,) = [json.loads(line) for line in (tmp_path / "to/part-00001.jsonl").read_text().splitlines()]
    assert triple == {
        "query_id": "2",
        "query": "text 2",
        "positive": {"doc_id": "d1", "text": "passage 1"},
        "negatives": [{"doc_id": "d0", "text": "passage 0"}],
    }


def test_everything_from_a_job_config(output: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(
        f"output: {{path: {output}}}\nexport: {{to: vespa, destination: {tmp_path / 'to'}, index: mine}}\n"
    )
    assert run.invoke(app, ["--config", str(config)]).exit_code == 0
    assert '"id:rankings:mine::1"' in (tmp_path / "to/part-00000.jsonl").read_text()
    again = run.invoke(app, ["--config", str(config)])
    assert again.exit_code == 2
    assert "not empty" in again.output
    assert run.invoke(app, ["--config", str(config), "--overwrite"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--to", "trec", "--destination", "TO"], "absent does not exist"),
        (["OUTPUT", "--to", "trec"], "export.destination: missing"),
        (["OUTPUT", "--to", "trec", "--destination", "OUTPUT"], "overlap; choose another destination"),
        (["OUTPUT", "--to", "triples", "--destination", "TO", "--min-negative-rank", "2"], "name its candidates"),
        (["OUTPUT", "--to", "triples", "--destination", "TO", "--status", "done"], "export.triples.statuses"),
    ],
)
def test_what_is_wrong_is_one_readable_message_and_exit_code_2(
    arguments: list[str], message: str, output: Path, tmp_path: Path
) -> None:
    paths = {"OUTPUT": str(output), "TO": str(tmp_path / "to")}
    result = run.invoke(app, [paths.get(argument, argument) for argument in arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
