"""Corpus -> index -> candidates -> rerank -> evaluate -> export: every stage a command, all from one config.

The reranker is an oracle made of the qrels, so that the result is known; pyserini and Ray are real.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ftfy
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import ConfigError
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.retrieval.java import find_java
from helpers.command_line import run_command
from helpers.oracle import write_grades

DEMO = CONFIGS_DIRECTORY / "demo"


@pytest.fixture(autouse=True)
def lucene(ray_cluster: None) -> None:
    """Ray, and pyserini with Java, without which these tests are skipped."""
    pytest.importorskip("pyserini")
    try:
        find_java()
    except ConfigError as error:
        pytest.skip(str(error))


def run_chain(config: Path) -> dict[str, str]:
    """Run the commands in order and return what each printed."""
    printed = {}
    for command in ("retrieve", "rerank", "evaluate", "export"):
        result = run_command(command, "--config", str(config))
        assert result.exit_code == 0, (command, result.output)
        printed[command] = result.output
    return printed


def oracle_config(folder: Path, base: Path, changes: Mapping[str, Any]) -> Path:
    """Write `base` with outputs in `folder`, absolute input paths, and the oracle as the engine; return its path."""
    text = base.read_text(encoding="utf-8").replace("out/demo-pipeline", str(folder))
    config = yaml.safe_load(text.replace("configs/demo", str(DEMO)))
    engine = {"kind": "scripted", "answers": "helpers.oracle:oracle", "max_model_len": 65536}
    config["engine"] = {**engine, "arguments": {"grades_path": str(folder / "grades.json")}}
    config["prompt"] = {"template": "reasonrank", "max_passage_tokens": 2000}  # the oracle needs whole passages
    config["cluster"] = {"replicas": 1, "queries_per_block": 4}
    config["strategy"] = {"window": 10, "stride": 5, "depth": 20}
    config["export"]["allow_simulated"] = True
    del config["base"]
    for section, values in changes.items():
        config[section] = {**config.get(section, {}), **values}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def write_oracle(
    folder: Path, queries: Mapping[str, str], corpus: Mapping[str, tuple[str | None, str]], qrels_path: Path
) -> None:
    """Write the oracle's grades: query text -> passage as the prompt shows it -> grade of the qrels."""
    qrels = load_qrels(LocalFileSystem(), str(qrels_path))

    def shown(title: str | None, text: str) -> str:
        return str(ftfy.fix_text(f"Title: {title} Content: {text}" if title else text))

    grades = {
        ftfy.fix_text(query): {shown(*corpus[doc_id]): grade for doc_id, grade in qrels.get(query_id, {}).items()}
        for query_id, query in queries.items()
    }
    write_grades(folder / "grades.json", grades)


def mean(evaluation: Mapping[str, Any], measure: str, order: str) -> float:
    (found,) = [
        each["mean"]
        for each in evaluation["means"]
        if each["measure"] == measure and each["system"].endswith(order) and each["dataset"] is None
    ]
    return float(found)


def test_the_demo_collection(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (DEMO / "collection/corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = (DEMO / "collection/queries.tsv").read_text(encoding="utf-8").splitlines()
    queries = dict(line.split("\t", 1) for line in lines)
    corpus = {row["doc_id"]: (row["title"], row["text"]) for row in rows}
    write_oracle(tmp_path, queries, corpus, DEMO / "collection/qrels.txt")
    printed = run_chain(oracle_config(tmp_path, DEMO / "pipeline.yaml", {}))

    assert "16 queries, 320 candidates" in printed["retrieve"]
    assert "queries: 16 complete" in printed["rerank"]
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert mean(evaluation, "nDCG@10", "before") == pytest.approx(0.4503, abs=5e-4)  # as tests/retrieval has it
    assert mean(evaluation, "nDCG@10", "after") == pytest.approx(0.9267, abs=5e-4)  # a window carries up 5 at most
    assert "reranked after - reranked before" in printed["evaluate"]
    assert "reranked: no model ranked it" in printed["evaluate"]

    candidates = pq.read_table(tmp_path / "candidates").to_pylist()
    reranked = {row["query_id"]: row for row in pq.read_table(tmp_path / "reranked").to_pylist()}
    assert sorted(reranked) == sorted(queries)
    for row in candidates:
        assert {each["doc_id"] for each in reranked[row["query_id"]]["ranking"]} == {
            each["doc_id"] for each in row["candidates"]
        }
    page = (tmp_path / "reranked/_run/report.html").read_text(encoding="utf-8")
    assert "nDCG@10 after" in page

    feed = [json.loads(line) for part in (tmp_path / "export").glob("part-*.jsonl") for line in part.open()]
    actions, documents = feed[::2], feed[1::2]
    assert {action["index"]["_id"] for action in actions} == set(queries)
    for document in documents:
        expected = [each["doc_id"] for each in reranked[document["query_id"]]["ranking"]]
        assert [each["doc_id"] for each in document["ranking"]] == expected


def test_a_corpus_of_eleven_thousand_documents(shared: Path, tmp_path: Path) -> None:
    """Vaswani/NPL: 11,429 abstracts, 93 queries (Glasgow's test collections, in the TREC form that Terrier ships)."""
    source = shared / "data" / "vaswani"
    if not source.is_dir():
        pytest.skip(f"no Vaswani collection at {source}: doc-text.trec, query-text.trec, qrels")
    found = re.findall(r"<DOCNO>(.*?)</DOCNO>(.*?)</DOC>", (source / "doc-text.trec").read_text(), re.DOTALL)
    corpus = {doc_id.strip(): " ".join(text.split()) for doc_id, text in found}
    assert len(corpus) == 11_429
    found = re.findall(r"<num>(\d+)</num>\s*<title>(.*?)</title>", (source / "query-text.trec").read_text(), re.DOTALL)
    queries = {query_id: " ".join(text.split()) for query_id, text in found}
    assert len(queries) == 93
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"doc_id": doc_id, "text": text}) + "\n" for doc_id, text in corpus.items())
    )
    (tmp_path / "queries.tsv").write_text("".join(f"{query_id}\t{text}\n" for query_id, text in queries.items()))
    write_oracle(tmp_path, queries, {key: (None, text) for key, text in corpus.items()}, source / "qrels")
    changes = {
        "retrieve": {
            "corpus": {"path": str(tmp_path / "corpus.jsonl")},
            "queries": {"path": str(tmp_path / "queries.tsv")},
            "depth": 100,
        },
        "strategy": {"window": 20, "stride": 10, "depth": 100},
        "evaluate": {"qrels": str(source / "qrels"), "measures": ["nDCG@10", "R@100"]},
    }
    printed = run_chain(oracle_config(tmp_path, DEMO / "pipeline.yaml", changes))
    assert "93 queries, 9,300 candidates" in printed["retrieve"]
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert mean(evaluation, "nDCG@10", "before") == pytest.approx(0.4368, abs=5e-4)
    assert mean(evaluation, "nDCG@10", "after") == pytest.approx(0.8849, abs=5e-4)
    assert mean(evaluation, "R@100", "after") == pytest.approx(mean(evaluation, "R@100", "before"))
