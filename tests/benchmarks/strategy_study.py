"""Cost and quality of each strategy, with answers simulated from real qrels (noisy_oracle.py has the model).

    python tests/benchmarks/strategy_study.py [--seeds 10] [--json out/benchmarks/strategy_study.json] [--write-docs]

Needs the research-only data (tests/helpers/paths.py has its folder) and takes a few minutes of one core.
`--write-docs` updates docs/strategies.md and docs/strategies.svg.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ir_measures
import numpy as np
import numpy.typing as npt
import typer
from noisy_oracle import Cost, JudgedQuery, Noise, NoisyOracle
from pyarrow.fs import LocalFileSystem
from rich.progress import track
from strategy_report import BASELINE, Outcome, plot, sensitivity_table, table, write_docs

from corpus_reranker.evaluation.measures import query_values
from corpus_reranker.evaluation.statistics import bootstrap_interval
from corpus_reranker.evaluation.trec import group_run, load_qrels
from corpus_reranker.io.trec import open_text, read_run
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template, template_path
from corpus_reranker.prompts.tokenizer import load_tokenizer
from corpus_reranker.ranking.strategies.active import Active
from corpus_reranker.ranking.strategies.base import RankWindow, Strategy, as_ranking, needs_scores
from corpus_reranker.ranking.strategies.full_list import FullList
from corpus_reranker.ranking.strategies.shuffle_consensus import ShuffleConsensus
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.strategies.top_down import TopDown
from corpus_reranker.ranking.strategies.tournament import Tournament
from corpus_reranker.types import Candidate, RerankRequest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("RERANKER_SHARED", REPOSITORY.parent / "shared"))

STRATEGIES: dict[str, Strategy] = {
    "single_window": SingleWindow(),
    BASELINE: SlidingWindow(),
    "sliding_window, passes 2": SlidingWindow(passes=2),
    "sliding_window, window 10, stride 5": SlidingWindow(window=10, stride=5),
    "full_list": FullList(),
    "top_down": TopDown(),
    "top_down, depth 96": TopDown(depth=96),
    "tournament": Tournament(),
    "tournament, rounds 3": Tournament(rounds=3),
    "active, max_calls 6": Active(max_calls=6),
    "active, depth 60, max_calls 6": Active(depth=60, max_calls=6),
    "active": Active(),
    "active, max_calls 15": Active(max_calls=15),
    "shuffle_consensus": ShuffleConsensus(),
}

TARGETS: dict[str, dict[str, float]] = {
    # RankZephyr 0.709 (arXiv 2312.02724) and RankVicuna 0.661 (arXiv 2309.15088), on BM25's top 100.
    "dl20": {"low noise": 0.709, "high noise": 0.661},
    # GPT-4 0.9045 and GPT-3.5 0.7571: README of NovelEval in sunnweiwei/RankGPT.
    "noveleval": {"low noise": 0.9045, "high noise": 0.7571},
}
"""nDCG@10 of sliding windows at each noise level: published values of real LLMs."""

HELD_OUT = ("economics", "stackoverflow")
"""Datasets of BRIGHT that no setting above was chosen on."""

HELD_OUT_STRATEGIES = (
    "top_down",
    "top_down, depth 96",
    "active, max_calls 6",
    "active, depth 60, max_calls 6",
    "active",
    "active, max_calls 15",
)

MAX_PASSAGE_TOKENS = 100
"""The ReasonRank authors' value for TREC DL."""

FloatArray = npt.NDArray[np.float64]


def load_queries(
    collection: str, template_name: str = "reasonrank"
) -> tuple[list[JudgedQuery], dict[str, dict[str, int]]]:
    """The queries of a collection with a relevant candidate, and the qrels. Prompt tokens are those of the template."""
    folder = SHARED / "data" / collection
    hits_file = {"dl20": "retrieve_results_dl20_bm25_top100.json", "noveleval": "data.json"}[collection]
    qrels_file = {"dl20": "qrels.dl20-passage.txt", "noveleval": "qrels.txt"}[collection]
    qrels = load_qrels(LocalFileSystem(), str(folder / qrels_file))
    template = load_template(template_path(template_name, CONFIGS_DIRECTORY / "prompts"))
    prompt_builder = PromptBuilder(
        template, load_tokenizer(str(SHARED / "tokenizers" / "qwen2.5")), MAX_PASSAGE_TOKENS, 1 << 20
    )
    queries = []
    for row in track(json.loads((folder / hits_file).read_text(encoding="utf-8")), f"prompt tokens of {collection}"):
        query_id = str(row["hits"][0]["qid"])
        if any(qrels.get(query_id, {}).values()):
            hits = [Candidate(str(hit["docid"]), hit["content"], 0.0) for hit in row["hits"]]
            queries.append(
                _judged_query(RerankRequest(query_id, row["query"], tuple(hits)), qrels[query_id], prompt_builder)
            )
    return queries, qrels


def load_held_out(name: str) -> tuple[list[JudgedQuery], dict[str, dict[str, int]]]:
    """The queries of a BRIGHT run with a relevant candidate, and the qrels. Without passages, prompts have 0 tokens."""
    folder, files = SHARED / "data" / "bright", LocalFileSystem()
    qrels = load_qrels(files, str(folder / f"qrels.bright-{name}.txt"))
    path = str(folder / f"run.{name}.reasonir_gpt4cot_top100.txt.gz")
    with open_text(path, files) as lines:
        run = group_run(read_run(lines, path), path, qrels)
    queries = []
    for query_id, doc_ids in run.items():
        if any(qrels[query_id].values()):
            grades = tuple(qrels[query_id].get(doc_id, 0) for doc_id in doc_ids)
            queries.append(JudgedQuery(query_id, tuple(doc_ids), grades, (0,) * len(doc_ids), 0))
    return queries, qrels


def _judged_query(request: RerankRequest, judged: dict[str, int], prompt_builder: PromptBuilder) -> JudgedQuery:
    prompt = prompt_builder(request)
    alone = [len(prompt([index]).token_ids) for index in range(len(request.candidates))]
    frame = alone[0] + alone[1] - len(prompt([0, 1]).token_ids)
    doc_ids = tuple(candidate.doc_id for candidate in request.candidates)
    grades = tuple(judged.get(doc_id, 0) for doc_id in doc_ids)
    return JudgedQuery(request.query_id, doc_ids, grades, tuple(tokens - frame for tokens in alone), frame)


class Collection:
    """Runs strategies over the queries of one collection, with the same noise for each strategy."""

    def __init__(
        self, queries: Sequence[JudgedQuery], qrels: dict[str, dict[str, int]], highest_score: int | None = None
    ) -> None:
        """`highest_score` is that of `NoisyOracle`."""
        self.queries = queries
        self._highest_score = highest_score
        self._qrels = qrels
        self._measures = [ir_measures.parse_measure("nDCG@10")]

    def run(self, strategy: Strategy, noise: Noise, seeds: int) -> tuple[FloatArray, Cost]:
        """Run a strategy with each seed.

        Returns:
            nDCG@10 of each query, averaged over seeds; and the mean cost over queries and seeds.
        """
        return asyncio.run(self._run(strategy, noise, seeds))

    async def _run(self, strategy: Strategy, noise: Noise, seeds: int) -> tuple[FloatArray, Cost]:
        costs = []
        ndcg = np.zeros(len(self.queries))
        for seed in range(seeds):
            orders = {}
            for query in self.queries:
                oracle = NoisyOracle(query, noise, seed, self._highest_score)
                window = oracle.score_window if needs_scores(strategy) else oracle.rank_window
                order = as_ranking(await strategy.rank(len(query.doc_ids), window)).order
                orders[query.query_id] = [query.doc_ids[index] for index in order]
                costs.append(astuple(oracle.cost))
            values = {query_id: value for query_id, _, value in query_values(self._measures, self._qrels, orders)}
            ndcg += [values[query.query_id] / seeds for query in self.queries]
        return ndcg, Cost(*np.mean(costs, axis=0).tolist())

    def calibrate(self, target: float, seeds: int, fixed_share: float = 0.5, position_bias: float = 0.5) -> Noise:
        """Find by bisection the noise with which the baseline has nDCG@10 `target`."""
        noise = partial(Noise, fixed_share=fixed_share, position_bias=position_bias)
        low, high = 0.0, 4.0
        for _ in range(9):
            middle = (low + high) / 2
            better = self.run(STRATEGIES[BASELINE], noise(middle), seeds)[0].mean() > target
            low, high = (middle, high) if better else (low, middle)
        return noise((low + high) / 2)

    def target(self, share: float = 0.5) -> float:
        """nDCG@10 at this share of the way from the first stage to the best order of its candidates."""
        first_stage, _ = self.run(_FirstStageOrder(), Noise(0.0), 1)
        best, _ = self.run(FullList(), Noise(0.0, 0.5, 0.0), 1)
        return float(first_stage.mean() * (1 - share) + best.mean() * share)


def study(
    queries: Collection, collection: str, level: str, noise: Noise, names: Iterable[str], seeds: int
) -> list[Outcome]:
    """Run the named strategies at one noise level."""
    baseline, _ = queries.run(STRATEGIES[BASELINE], noise, seeds)
    outcomes = []
    for name in track(list(names), f"{collection}, {level}"):
        ndcg, cost = queries.run(STRATEGIES[name], noise, seeds)
        intervals = bootstrap_interval(ndcg), bootstrap_interval(ndcg - baseline)
        gain = float((ndcg - baseline).mean())
        outcomes.append(Outcome(collection, level, name, cost, float(ndcg.mean()), intervals[0], gain, intervals[1]))
    return outcomes


def held_out(seeds: int) -> list[Outcome]:
    """Run the strategies with chosen settings on queries that were not used for the choice.

    The noise level puts sliding windows halfway between the first stage and the best order of its candidates.
    """
    outcomes = []
    for name in HELD_OUT:
        queries = Collection(*load_held_out(name))
        noise = queries.calibrate(queries.target(), seeds)
        outcomes += study(queries, f"BRIGHT {name}", "halfway", noise, (BASELINE, *HELD_OUT_STRATEGIES), seeds)
    return outcomes


class _FirstStageOrder:
    """A strategy without windows."""

    max_window = 0

    def max_windows(self, num_candidates: int) -> int:
        return 0

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        return list(range(num_candidates))


def sensitivity(queries: Collection, collection: str, seeds: int) -> list[tuple[Noise, Outcome]]:
    """Run the recommended strategies with other fixed shares and other position biases."""
    results = []
    for fixed_share in (0.25, 0.5, 0.75):
        for position_bias in (0.0, 0.5, 1.0):
            noise = queries.calibrate(TARGETS[collection]["low noise"], seeds, fixed_share, position_bias)
            names = ("top_down", "top_down, depth 96", "active, depth 60, max_calls 6", "active")
            results += [(noise, outcome) for outcome in study(queries, collection, "low noise", noise, names, seeds)]
    return results


def main(
    seeds: Annotated[int, typer.Option(help="Simulated runs of every query.")] = 10,
    json_path: Annotated[Path, typer.Option("--json")] = Path("out/benchmarks/strategy_study.json"),
    write_docs_: Annotated[bool, typer.Option("--write-docs")] = False,
) -> None:
    """Run the study, print its tables, and write them as JSON."""
    if not SHARED.is_dir():
        print(f"skipped: no research-only test data at {SHARED}")
        return
    started = time.monotonic()
    outcomes: list[Outcome] = []
    deviations: dict[str, Any] = {}
    for collection, targets in TARGETS.items():
        queries = Collection(*load_queries(collection))
        for level, target in targets.items():
            noise = queries.calibrate(target, seeds)
            deviations[f"{collection}, {level}"] = asdict(noise)
            outcomes += study(queries, collection, level, noise, STRATEGIES, seeds)
        if collection == "dl20":
            varied = sensitivity(queries, collection, max(1, seeds // 3))
    held_out_outcomes = held_out(seeds)
    blocks = {
        f"{collection} {level}": table([o for o in outcomes if (o.collection, o.noise) == (collection, level)])
        for collection, targets in TARGETS.items()
        for level in targets
    }
    for name in HELD_OUT:
        blocks[f"bright {name}"] = table([o for o in held_out_outcomes if o.collection == f"BRIGHT {name}"])
    blocks["sensitivity"] = sensitivity_table(varied)
    for name, block in blocks.items():
        print(f"\n{name}\n{block}")
    print("\ndeviations:", {name: round(noise["deviation"], 3) for name, noise in deviations.items()})
    print(f"{time.monotonic() - started:.0f} s, {seeds} seeds. All answers are simulated.")
    json_path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "simulated": True,
        "seeds": seeds,
        "noise": deviations,
        "outcomes": [asdict(outcome) for outcome in outcomes + held_out_outcomes],
        "sensitivity": [{**asdict(noise), **asdict(outcome)} for noise, outcome in varied],
    }
    json_path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    if write_docs_:
        write_docs(REPOSITORY / "docs" / "strategies.md", blocks)
        plot([outcome for outcome in outcomes if outcome.collection == "dl20"], REPOSITORY / "docs" / "strategies.svg")


if __name__ == "__main__":
    typer.run(main)
