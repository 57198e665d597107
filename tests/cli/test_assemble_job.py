"""The commands that make candidates: options, config sections, what they print."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

pytestmark = pytest.mark.usefixtures("ray_cluster")


def run(job: str, *arguments: str) -> Any:
    return CliRunner().invoke(import_module(f"corpus_reranker.cli.{job}").app, arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "run.txt").write_text("q1 Q0 d1 1 2 t\nq1 Q0 a b 2 1 t\nq1 Q0 gone 3 0 t\n")
    (tmp_path / "queries.tsv").write_text("q1\tfirst\n")
    documents = [{"doc_id": "d1", "text": "one"}, {"doc_id": "a b", "text": "two"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    return tmp_path


def options(data: Path) -> list[str]:
    return [f"--run={data}/run.txt", f"--queries={data}/queries.tsv", f"--corpus={data}/corpus.jsonl"]


def test_assemble_by_options(data: Path) -> None:
    result = run("assemble", *options(data), f"--output={data}/out", "--assemble.hits=3")
    assert result.exit_code == 0, result.output
    assert "1 queries, 2 candidates; left out 1 documents and 0 queries" in result.output
    (row,) = [row for part in (data / "out").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    assert [each["doc_id"] for each in row["candidates"]] == ["d1", "a b"]


def test_assemble_writes_where_the_reranker_reads(data: Path) -> None:
    """One file describes the stages; options win over it."""
    config = {
        "assemble": {
            "run": {"path": f"{data}/no-such-run.txt"},
            "queries": {"path": f"{data}/queries.tsv"},
            "corpus": {"path": f"{data}/corpus.jsonl"},
        },
        "input": {"path": f"{data}/candidates"},
        "output": {"path": f"{data}/reranked"},
    }
    (data / "job.yaml").write_text(yaml.safe_dump(config))
    missing = run("assemble", f"--config={data}/job.yaml")
    assert missing.exit_code == 2
    assert "no-such-run.txt" in missing.output
    result = run("assemble", f"--config={data}/job.yaml", f"--run={data}/run.txt")
    assert result.exit_code == 0, result.output
    assert list((data / "candidates").glob("*.parquet"))


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("assemble", ["--assemble.missing=error"], "lacks 1 entries of the run: 'gone' (not in the corpus)"),
        ("assemble", ["--assemble.mising=error"], "did you mean 'missing'"),
        ("assemble", ["--corpus=/no/such/corpus"], "/no/such/corpus"),
        ("retrieve", ["--queries=/no/such/queries", "--index=x"], "/no/such/queries"),
        ("retrieve", ["--index=x"], "retrieve.queries: missing"),
        ("retrieve", ["--retrieve.bm25=1"], "unknown key 'bm25'"),
    ],
)
def test_what_is_wrong_is_one_readable_message_and_exit_code_2(
    data: Path, job: str, arguments: list[str], message: str
) -> None:
    given = options(data) if job == "assemble" else []
    result = run(job, *given, f"--output={data}/out", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
