"""Quality of the demo's pre-ranker on TREC DL 2020 (BM25, top 100): MiniLM in vLLM on the CPU.

    python tests/benchmarks/pre_ranker_study.py RESULTS.json QRELS.txt

RESULTS.json is a list of {"query", "hits": [{"qid", "docid", "content", "score"}]}. Prints the table of
docs/pre-ranker.md: nDCG@10 before and after the pre-ranker, and the share of relevant candidates within each depth.
Takes about four minutes on 2 cores.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pyarrow.fs import LocalFileSystem

from corpus_reranker.cli.demo_model import packaged_embedder
from corpus_reranker.config.loader import load_config
from corpus_reranker.engines.registry import create_pre_ranker
from corpus_reranker.evaluation.comparison import evaluate
from corpus_reranker.evaluation.rankings import QueryOrders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import Qrels, load_qrels
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.ranking.pre_ranker import order_by_score

DEPTHS = (10, 20, 50, 100)
RELEVANT = 2
"""Grades of TREC DL that count as relevant in its binary measures."""


async def pre_ranker_orders(lists: Sequence[Mapping[str, object]]) -> dict[str, dict[str, list[str]]]:
    """Query id -> the orders before and after the pre-ranker."""
    demo = load_config(
        CONFIGS_DIRECTORY / "demo" / "demo.yaml", [f"--pre_ranker.engine.model={packaged_embedder()}"]
    ).pre_ranker
    assert demo is not None
    pre_ranker = create_pre_ranker(demo.engine)
    await pre_ranker.start()
    started, orders = time.monotonic(), {}
    for each in lists:
        hits: list[dict[str, str]] = each["hits"]  # type: ignore[assignment]
        before = [str(hit["docid"]) for hit in hits]
        scores = await pre_ranker.score(str(each["query"]), [hit["content"] for hit in hits])
        orders[str(hits[0]["qid"])] = {"before": before, "after": [before[index] for index in order_by_score(scores)]}
    passages = sum(len(each["before"]) for each in orders.values())
    print(f"{passages:,} passages in {time.monotonic() - started:.0f} s\n")
    await pre_ranker.stop()
    return orders


def kept_share(doc_ids: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Share of the relevant candidates that are within `depth`; NaN if no candidate is relevant."""
    relevant = [grades.get(doc_id, 0) >= RELEVANT for doc_id in doc_ids]
    return sum(relevant[:depth]) / sum(relevant) if any(relevant) else float("nan")


def report(orders: Mapping[str, Mapping[str, list[str]]], qrels: Qrels, qrels_path: str) -> None:
    judged = {query_id: each for query_id, each in orders.items() if query_id in qrels}
    settings = EvaluateConfig(qrels=qrels_path, measures=("nDCG@10",))
    means = evaluate(
        {"list": (QueryOrders(query_id, each) for query_id, each in judged.items())}, qrels, settings
    ).means
    print("| order | nDCG@10 | " + " | ".join(f"relevant kept by {depth}" for depth in DEPTHS) + " |")
    print("|---|---:|" + "---:|" * len(DEPTHS))
    for mean in means:
        name = mean.system.split()[-1]
        kept = [np.nanmean([kept_share(each[name], qrels[query], d) for query, each in judged.items()]) for d in DEPTHS]
        interval = f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"
        print(f"| {name} | {interval} | " + " | ".join(f"{share:.0%}" for share in kept) + " |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("results", type=Path)
    arguments.add_argument("qrels", type=Path)
    options = arguments.parse_args()
    lists = json.loads(options.results.read_text(encoding="utf-8"))
    qrels = load_qrels(LocalFileSystem(), str(options.qrels))
    report(asyncio.run(pre_ranker_orders(lists)), qrels, str(options.qrels))


if __name__ == "__main__":
    main()
