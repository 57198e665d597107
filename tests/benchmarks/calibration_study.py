"""Calibration error on DL20: each half of the queries is predicted by a calibration fitted on the other half.

    python tests/benchmarks/calibration_study.py out/calibration

A noisy oracle ranks BM25's top 100 by sliding windows; with its noise, nDCG@10 is 0.677. The rank is calibrated, then
BM25's score, then a simulated score of an LLM: the grade that the oracle perceives. Needs the folder `shared`.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from noisy_oracle import JudgedQuery, Noise, NoisyOracle
from pyarrow.fs import LocalFileSystem
from strategy_study import SHARED

from corpus_reranker.evaluation.settings import CalibrateConfig
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.calibration import CalibrationMethod
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.report.calibration_page import calibrate_output

QRELS = SHARED / "data/dl20/qrels.dl20-passage.txt"
HITS = SHARED / "data/dl20/retrieve_results_dl20_bm25_top100.json"
NOISE = Noise(deviation=1.4)
MIN_RELEVANCE = 2
"""The grade from which TREC DL counts a passage as relevant."""

ENTRY = pa.struct(
    [
        ("doc_id", pa.string()),
        ("rank", pa.int32()),
        ("initial_rank", pa.int32()),
        ("initial_score", pa.float64()),
        ("llm_score", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [("query_id", pa.string()), ("status", pa.string()), ("ranking", pa.list_(ENTRY))], {"reranker.simulated": "true"}
)


def write_output(folder: Path) -> None:
    """Rank every judged query with the oracle, and write the rankings as a finished output."""
    qrels = load_qrels(LocalFileSystem(), str(QRELS))
    lists = json.loads(HITS.read_text(encoding="utf-8"))
    rows = [row for each in lists if (row := asyncio.run(_row(each["hits"], qrels)))]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "part-0.parquet")
    (folder / "_SUCCESS").touch()


async def _row(hits: list[dict[str, Any]], qrels: dict[str, dict[str, int]]) -> dict[str, Any] | None:
    query_id = str(hits[0]["qid"])
    if query_id not in qrels:
        return None
    doc_ids = tuple(str(hit["docid"]) for hit in hits)
    grades = tuple(qrels[query_id].get(doc_id, 0) for doc_id in doc_ids)
    oracle = NoisyOracle(JudgedQuery(query_id, doc_ids, grades, (0,) * len(hits), 0), NOISE, seed=0)
    order = await SlidingWindow().rank(len(hits), oracle.rank_window)
    ranking = [
        {
            "doc_id": doc_ids[index],
            "rank": rank,
            "initial_rank": index + 1,
            "initial_score": hits[index]["score"],
            "llm_score": oracle.perceived_grades[index],
        }
        for rank, index in enumerate(order, 1)
    ]
    return {"query_id": query_id, "status": "complete", "ranking": ranking}


def study(folder: Path) -> Iterator[str]:
    """Rows of a Markdown table."""
    yield "| score | method | ECE before | ECE after | Brier before | Brier after | Brier of the base rate |"
    yield "|---|---|---|---|---|---|---|"
    for score in ("rank", "initial_score", "llm_score"):
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
            fitted = calibrate_output(str(folder / "output"), StorageConfig(), config).fitted
            measured = (fitted.before.ece, fitted.after.ece, fitted.before.brier, fitted.after.brier)
            values = " | ".join(f"{each:.3f}" for each in (*measured, fitted.base_rate.brier))
            yield f"| {score} | {method} | {values} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_output(folder / "output")
    print("\n".join(study(folder)))


if __name__ == "__main__":
    main()
