"""Calibration error on DL20: each half of the queries is predicted by a calibration fitted on the other half.

    python tests/benchmarks/calibration_study.py out/calibration

Two jobs rerank BM25's top 100 on a local Ray, with the noisy oracle as scripted engine: one scores each passage on its
own, one ranks windows with the strategy `active`. Each score of their outputs is calibrated. Needs the folder `shared`.
"""

import argparse
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
from noisy_oracle import JudgedQuery, Noise, NoisyOracle
from pyarrow.fs import LocalFileSystem
from strategy_study import REPOSITORY, SHARED

from corpus_reranker.config.loader import load_config
from corpus_reranker.engines.scripted import Response
from corpus_reranker.evaluation.settings import CalibrateConfig
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.report.calibration_page import calibrate_output
from corpus_reranker.run.driver import run_job
from corpus_reranker.types import CalibrationMethod, Completion, SamplingParams

QRELS = SHARED / "data/dl20/qrels.dl20-passage.txt"
HITS = SHARED / "data/dl20/retrieve_results_dl20_bm25_top100.json"
NOISE = Noise(deviation=1.4)
MIN_RELEVANCE = 2
"""The grade from which TREC DL counts a passage as relevant."""

JOBS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "pointwise": (
        [
            "--strategy.name=pointwise",
            "--prompt.template=first",
            "--generation={max_reasoning_tokens: 0, max_answer_tokens: 1}",
        ],
        ("rank", "initial_score", "llm_score"),
    ),
    "active": (["--strategy.name=active"], ("rank", "belief_mean")),
}
"""Options of each job, and the scores of its output."""

_QUERY = re.compile(r"topic-(\d+)")
_PASSAGE = re.compile(r"^\[\w+\] doc-(\d+)$", re.MULTILINE)


def judged_queries() -> Iterator[tuple[JudgedQuery, list[float]]]:
    """The judged queries, and BM25's scores of their passages."""
    qrels = load_qrels(LocalFileSystem(), str(QRELS))
    for row in json.loads(HITS.read_text(encoding="utf-8")):
        query_id, hits = str(row["hits"][0]["qid"]), row["hits"]
        if query_id in qrels:
            doc_ids = tuple(str(hit["docid"]) for hit in hits)
            grades = tuple(qrels[query_id].get(doc_id, 0) for doc_id in doc_ids)
            yield JudgedQuery(query_id, doc_ids, grades, (0,) * len(hits), 0), [hit["score"] for hit in hits]


def answers() -> Callable[[str, SamplingParams], Response]:
    """The oracle as answers of the scripted engine: a score for one passage, a ranking of several."""
    queries = {query.query_id: query for query, _ in judged_queries()}
    oracles = {query_id: NoisyOracle(query, NOISE, seed=0) for query_id, query in queries.items()}

    def answer(text: str, params: SamplingParams) -> Response:
        found = _QUERY.search(text)
        assert found is not None
        doc_ids = queries[found[1]].doc_ids
        shown = [doc_ids.index(doc_id) for doc_id in _PASSAGE.findall(text)]
        perceived = oracles[found[1]].perceive(shown, random.Random(text))
        if len(shown) == 1:
            return Completion("A", "length", 0, 1, (perceived[shown[0]],))
        order = sorted(range(len(shown)), key=lambda position: -perceived[shown[position]])
        return "<think></think> <answer>" + " > ".join(f"[{position + 1}]" for position in order) + "</answer>"

    return answer


def rerank(folder: Path, options: list[str]) -> None:
    """Rerank every judged query. Each passage is its id, which the oracle knows."""
    rows = [
        {
            "query_id": query.query_id,
            "query": f"topic-{query.query_id}",
            "candidates": [
                {"doc_id": doc_id, "text": f"doc-{doc_id}", "title": None, "score": score}
                for doc_id, score in zip(query.doc_ids, scores, strict=True)
            ],
        }
        for query, scores in judged_queries()
    ]
    (folder / "in").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), folder / "in" / "queries.parquet")
    paths = [f"--input.path={folder}/in", f"--output.path={folder}/out"]
    engine = ["--engine.kind=scripted", "--engine.answers=calibration_study:answers", "--cluster.replicas=1"]
    run_job(load_config(None, [*paths, *engine, *options]), new_run=True)


def study(folder: Path, job: str, scores: tuple[str, ...]) -> Iterator[str]:
    """Rows of a Markdown table."""
    for score in scores:
        for method in get_args(CalibrationMethod):
            files = {"model_path": f"{folder}/{score}-{method}.json", "page_path": f"{folder}/{score}-{method}.html"}
            config = CalibrateConfig.model_validate(
                {
                    "qrels": str(QRELS),
                    "score": score,
                    "method": method,
                    "min_relevance": MIN_RELEVANCE,
                    "allow_simulated": True,
                    **files,
                }
            )
            fitted = calibrate_output(str(folder / "out"), StorageConfig(), config).fitted
            measured = (fitted.before.ece, fitted.after.ece, fitted.before.brier, fitted.after.brier)
            values = " | ".join(f"{each:.3f}" for each in (*measured, fitted.base_rate.brier))
            yield f"| {job} | {score} | {method} | {values} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    sources = (REPOSITORY / "pipeline", REPOSITORY / "tests", REPOSITORY / "tests" / "benchmarks")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, sources))  # of Ray's workers
    rows: list[str] = []
    for job, (options, scores) in JOBS.items():
        rerank(folder / job, options)
        rows += study(folder / job, job, scores)
    print("| output | score | method | ECE before | ECE after | Brier before | Brier after | Brier of the base rate |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
