"""The commands `assemble` and `retrieve`: options, config sections, output."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from helpers.command_line import check_refused, run_command

pytestmark = pytest.mark.usefixtures("ray_cluster")


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
    result = run_command("assemble", *options(data), f"--output={data}/out", "--assemble.hits=3")
    assert result.exit_code == 0, result.output
    assert "1 query, 2 candidates; skipped 1 document and 0 queries" in result.output
    (row,) = [row for part in (data / "out").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    assert [each["doc_id"] for each in row["candidates"]] == ["d1", "a b"]


def test_assemble_writes_where_the_reranker_reads(data: Path) -> None:
    """One file describes all stages; options override it."""
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
    check_refused(run_command("assemble", f"--config={data}/job.yaml"), "no-such-run.txt")
    result = run_command("assemble", f"--config={data}/job.yaml", f"--run={data}/run.txt")
    assert result.exit_code == 0, result.output
    assert list((data / "candidates").glob("*.parquet"))


def test_a_dataset_fills_in_missing_keys(data: Path) -> None:
    """Corpus and qrels are those of the BEIR folder, queries and run those of the options."""
    (data / "qrels").mkdir()
    (data / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta b\t1\n")
    (data / "queries.jsonl").write_text('{"_id": "q1", "text": "of the folder"}\n')
    dataset = [f"--dataset={data}", "--from=beir", "--split=dev"]
    given = [f"--run={data}/run.txt", f"--queries={data}/queries.tsv", f"--output={data}/out", "--json"]
    result = run_command("assemble", *dataset, *given)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["candidates"] == 2
    (row,) = [row for part in (data / "out").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    assert row["query"] == "first"
    config = {"dataset": {"layout": "beir", "path": str(data), "split": "dev"}, "input": {"path": f"{data}/out"}}
    (data / "job.yaml").write_text(yaml.safe_dump({**config, "evaluate": {"measures": ["RR@10"]}}))
    result = run_command("evaluate", f"{data}/out", f"--config={data}/job.yaml", "--json")
    assert result.exit_code == 0, result.output
    assert [each["mean"] for each in json.loads(result.stdout)["means"]] == [0.5]  # "a b" is the second candidate


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("assemble", ["--from=beir", "--dataset=/no/such/folder"], "dataset /no/such/folder has no queries.jsonl"),
        ("assemble", ["--from=beer", "--dataset=data"], "unknown dataset layout 'beer'; did you mean 'beir'?"),
        ("assemble", ["--dataset=data"], "dataset.layout: missing"),
        ("assemble", ["--assemble.missing=error"], "lacks 1 entry of the run: 'gone' (not in the corpus)"),
        ("assemble", ["--assemble.mising=error"], "did you mean 'missing'"),
        ("assemble", ["--corpus=/no/such/corpus"], "/no/such/corpus"),
        ("retrieve", ["--queries=/no/such/queries", "--index=x"], "/no/such/queries"),
        ("retrieve", ["--index=x"], "retrieve.queries: missing"),
        ("retrieve", ["--retrieve.bm25=1"], "retrieve.bm25: unknown key"),
    ],
)
def test_wrong_arguments_of_assemble_and_retrieve_are_refused(
    data: Path, command: str, arguments: list[str], message: str
) -> None:
    given = options(data) if command == "assemble" else []
    check_refused(run_command(command, *given, f"--output={data}/out", *arguments), message)


def test_the_counts_are_printed_as_json(data: Path) -> None:
    result = run_command("assemble", *options(data), "--assemble.output", f"{data}/out", "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert (counts["output"], counts["queries"], counts["candidates"]) == (f"{data}/out", 1, 2)
    assert counts["documents_skipped"] == 1
