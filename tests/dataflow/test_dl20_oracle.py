"""The rerank job over TREC DL 2020 (BM25, top 100), with an oracle that ranks by the qrels instead of an LLM."""

import json
from pathlib import Path

import ftfy
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.evaluation.comparison import evaluate
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import load_qrels
from helpers.oracle import write_grades
from helpers.runs import config, rerank, rows_of, write_input

AUTHORS_NDCG_10 = 0.8707005
"""nDCG@10 of `sliding_windows_batched` in ReasonRank's rerank/rankllm.py, with the same oracle on the same lists."""


@pytest.mark.usefixtures("ray_cluster")
def test_sliding_windows_with_an_oracle_reach_the_ndcg_of_the_authors_code(shared: Path, tmp_path: Path) -> None:
    lists = json.loads((shared / "data/dl20/retrieve_results_dl20_bm25_top100.json").read_text(encoding="utf-8"))
    qrels_path = str(shared / "data/dl20/qrels.dl20-passage.txt")
    qrels = load_qrels(LocalFileSystem(), qrels_path)
    rows, grades = [], {}  # doc_id as title: some passages have equal texts and different grades
    for each in lists:
        query_id = str(each["hits"][0]["qid"])
        candidates = [
            {"doc_id": str(hit["docid"]), "text": hit["content"], "title": str(hit["docid"]), "score": hit["score"]}
            for hit in each["hits"]
        ]
        rows.append({"query_id": query_id, "query": each["query"], "candidates": candidates})
        grades[each["query"]] = {
            ftfy.fix_text(f"Title: {c['title']} Content: {c['text']}"): qrels.get(query_id, {}).get(c["doc_id"], 0)
            for c in candidates
        }
    write_input(tmp_path / "in", rows)
    write_grades(tmp_path / "grades.json", grades)
    settings = config(
        tmp_path,
        "--strategy={window: 20, stride: 10, depth: 100}",
        "--engine.answers=helpers.oracle:oracle",
        f"--engine.arguments={{grades_path: '{tmp_path}/grades.json'}}",
        "--cluster.queries_in_flight=16",
    )
    manifest, _ = rerank(settings)
    assert manifest["queries_by_status"] == {"complete": len(lists)}
    assert manifest["windows_by_status"] == {"complete": 9 * len(lists)}
    assert {len(row["ranking"]) for row in rows_of(settings).values()} == {100}
    judged = evaluate(
        {"job": read_orders(LocalFileSystem(), settings.output.path, qrels)},
        qrels,
        EvaluateConfig(qrels=qrels_path, measures=("nDCG@10",), resamples=100),
    )
    before, after = (mean.mean for mean in judged.means)
    assert before == pytest.approx(0.4796367, abs=1e-6)
    assert after == pytest.approx(AUTHORS_NDCG_10, abs=1e-6)
