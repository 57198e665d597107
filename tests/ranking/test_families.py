"""Every reranker family on TREC DL 2020 (BM25, top 100), with an oracle that reads the grades."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ir_measures
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.evaluation.measures import query_values
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.types import Candidate, RerankRequest
from helpers.families import FAMILIES, Family, rerank_with_grades

NDCG_10 = [ir_measures.parse_measure("nDCG@10")]
NUM_QUERIES = 6

LISTWISE = {name: Family(name, SlidingWindow()) for name in ("rearank", "insertrank", "nemotron-thinking")}
"""Templates whose strategy is that of ReasonRank."""


@pytest.fixture(scope="module")
def queries(shared: Path) -> Sequence[tuple[RerankRequest, Mapping[str, int]]]:
    """Queries with their qrels."""
    folder = shared / "data" / "dl20"
    qrels = load_qrels(LocalFileSystem(), str(folder / "qrels.dl20-passage.txt"))
    rows = json.loads((folder / "retrieve_results_dl20_bm25_top100.json").read_text(encoding="utf-8"))
    requests = [
        RerankRequest(
            str(row["hits"][0]["qid"]),
            row["query"],
            tuple(Candidate(str(hit["docid"]), hit["content"], hit["score"]) for hit in row["hits"]),
        )
        for row in rows
    ]
    return [(request, qrels[request.query_id]) for request in requests if request.query_id in qrels][:NUM_QUERIES]


@pytest.mark.parametrize("family", (FAMILIES | LISTWISE).values(), ids=FAMILIES | LISTWISE)
def test_an_oracle_gives_the_best_order(
    family: Family, queries: Sequence[tuple[RerankRequest, Mapping[str, int]]]
) -> None:
    for request, grades in queries:
        result = rerank_with_grades(family, request, grades)
        assert result.status == "complete"
        assert len(result.windows) <= family.strategy.max_windows(100)
        assert {flag for window in result.windows for flag in window.flags} <= {"input_order"}
        doc_ids = [candidate.doc_id for candidate in request.candidates]
        best = sorted(doc_ids, key=lambda doc_id: -grades.get(doc_id, 0))
        before, after, limit = (
            value
            for order in (doc_ids, [doc_ids[index] for index in result.order], best)
            for _, _, value in query_values(NDCG_10, {request.query_id: dict(grades)}, {request.query_id: order})
        )
        if family.template == "lighton-rerank-lw":  # a pass with windows of 4 finds only the best two
            assert before < after < limit
        else:
            assert after == pytest.approx(limit)
