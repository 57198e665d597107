"""The counts and tables of the strategy study, on a synthetic collection."""

import asyncio
import random
from pathlib import Path

import pytest
from noisy_oracle import MEAN_OUTPUT_TOKENS, JudgedQuery, Noise, NoisyOracle
from strategy_report import plot, sensitivity_table, table, write_docs
from strategy_study import STRATEGIES, Collection, study
from tried_strategies import PAIRS, TournamentGraph

from corpus_reranker.ranking.strategies.base import as_ranking
from corpus_reranker.ranking.strategies.groupwise import Groupwise
from corpus_reranker.ranking.strategies.pointwise import Pointwise

NO_NOISE = Noise(deviation=0.0, position_bias=0.0)


def judged_query(number: int, num_candidates: int = 100) -> JudgedQuery:
    grades = random.Random(number).choices(range(4), weights=(12, 3, 2, 1), k=num_candidates)
    doc_ids = tuple(f"d{index}" for index in range(num_candidates))
    return JudgedQuery(f"q{number}", doc_ids, tuple(grades), (90,) * num_candidates, 200)


def collection(num_queries: int = 8) -> Collection:
    queries = [judged_query(number) for number in range(num_queries)]
    return Collection(queries, {q.query_id: dict(zip(q.doc_ids, q.grades, strict=True)) for q in queries})


@pytest.mark.parametrize(
    ("name", "calls", "depth"),
    [
        ("single_window", 1, 1),
        ("sliding_window", 9, 9),
        ("sliding_window, passes 2", 18, 18),
        ("tournament", 11, 5),
        ("tournament, rounds 3", 33, 5),
        ("active, max_calls 6", 6, 2),
        ("active, depth 60, max_calls 6", 6, 3),
        ("shuffle_consensus", 27, 9),
    ],
)
def test_a_strategy_makes_the_documented_number_of_calls(name: str, calls: int, depth: int) -> None:
    _, cost = collection().run(STRATEGIES[name], Noise(1.0), seeds=1)
    assert (cost.calls, cost.depth) == (calls, depth)


@pytest.mark.parametrize("num_candidates", [1, 7, 20, 21, 100])
async def test_tried_strategies_rank_every_candidate_once_and_keep_their_budget(num_candidates: int) -> None:
    for _, tried, _ in PAIRS:
        oracle = NoisyOracle(judged_query(1, num_candidates), Noise(1.0), seed=0)
        order = as_ranking(await tried.rank(num_candidates, oracle.rank_window)).order
        assert sorted(order) == list(range(num_candidates))
        assert oracle.cost.calls <= tried.max_windows(num_candidates)


async def test_the_tournament_graph_finds_the_top_without_noise() -> None:
    query = JudgedQuery("q", tuple("abcdefghij"), (0, 3, 9, 1, 8, 2, 7, 4, 6, 5), (1,) * 10, 1)
    oracle = NoisyOracle(query, NO_NOISE, seed=0)
    order = await TournamentGraph(window=4, cutoff=3).rank(10, oracle.rank_window)
    assert order[:3] == [2, 4, 6]


async def test_tokens_of_concurrent_windows() -> None:
    oracle = NoisyOracle(judged_query(0), NO_NOISE, seed=0)
    await STRATEGIES["top_down"].rank(100, oracle.rank_window)
    assert (oracle.cost.calls, oracle.cost.depth) == (7, 3)
    assert oracle.cost.prompt_tokens % 10 == 0
    assert oracle.cost.chain_output_tokens < oracle.cost.output_tokens
    chain = NoisyOracle(judged_query(0), NO_NOISE, seed=0)
    await STRATEGIES["sliding_window"].rank(100, chain.rank_window)
    assert chain.cost.prompt_tokens == 9 * (200 + 20 * 90)
    assert chain.cost.chain_output_tokens == chain.cost.output_tokens


def test_scores_are_exact_or_integers() -> None:
    perfect, cost = collection().run(Pointwise(), NO_NOISE, seeds=1)
    assert perfect.tolist() == pytest.approx([1.0] * 8)
    assert (cost.calls, cost.depth, cost.prompt_tokens) == (100, 1, 100 * (200 + 90))
    stated = NoisyOracle(judged_query(0), Noise(1.0), seed=0, highest_score=10)
    scores = asyncio.run(stated.score_window(range(100), 0))
    assert {0, 10} < set(scores) <= set(range(11))
    groups, cost = collection().run(Groupwise(), NO_NOISE, seeds=1)
    assert groups.tolist() == pytest.approx([1.0] * 8)
    assert (cost.calls, cost.depth) == (10, 1)


async def test_output_lengths_have_the_stated_mean() -> None:
    oracle = NoisyOracle(judged_query(0), NO_NOISE, seed=0)
    for _ in range(4000):
        await oracle.rank_window([0, 1], 0)
    assert oracle.cost.output_tokens / oracle.cost.calls == pytest.approx(MEAN_OUTPUT_TOKENS, rel=0.05)


def test_sliding_windows_are_perfect_without_noise_and_calibrated_with_noise() -> None:
    queries = collection()
    perfect, _ = queries.run(STRATEGIES["sliding_window"], NO_NOISE, seeds=1)
    assert perfect.tolist() == pytest.approx([1.0] * 8)
    noise = queries.calibrate(0.8, seeds=2)
    assert queries.run(STRATEGIES["sliding_window"], noise, seeds=2)[0].mean() == pytest.approx(0.8, abs=0.02)


def test_tables_plot_and_docs(tmp_path: Path) -> None:
    names = ["single_window", "sliding_window"]
    outcomes = study(collection(), "synthetic", "low noise", Noise(1.0), names, seeds=1)
    single, sliding = outcomes
    assert sliding.gain == 0.0
    assert single.gain == pytest.approx(single.ndcg - sliding.ndcg)
    assert len(table(outcomes).splitlines()) == 2 + len(names)
    assert "single_window" in sensitivity_table([(Noise(1.0), single)])
    plot(outcomes, tmp_path / "plot.svg")
    assert "</svg>" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n", encoding="utf-8")
    write_docs(page, {"a": "new"})
    assert page.read_text(encoding="utf-8") == "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"
    with pytest.raises(SystemExit, match="no block"):
        write_docs(page, {"b": "new"})
