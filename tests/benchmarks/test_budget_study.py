"""The allocation of a budget, its upper bound, and the rankings between two windows that the study compares."""

from functools import partial

import numpy as np
import pytest
from budget_allocation import allocate, next_queries, upper_bound
from budget_study import active_states, choose, consensus_states, noise_of, row, simulate
from budget_uncertainty import expected_regret
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_oracle import Noise, NoisyOracle
from test_strategy_study import judged_query

from corpus_reranker.ranking.strategies.active import Active
from corpus_reranker.ranking.strategies.base import as_ranking
from corpus_reranker.ranking.strategies.shuffle_consensus import ShuffleConsensus

NOISE = Noise(1.0)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 2.0])), st.integers(0, 30))
def test_the_most_uncertain_queries_get_the_next_windows(uncertainties: list[float], windows: int) -> None:
    chosen = next_queries(uncertainties, windows)
    uncertain = sum(value > 0 for value in uncertainties)
    assert len(set(chosen)) == len(chosen) == min(windows, uncertain)
    keys = [(-uncertainties[index], index) for index in chosen]
    assert keys == sorted(keys)
    others = [value for index, value in enumerate(uncertainties) if index not in chosen]
    assert all(uncertainties[index] >= max(others, default=0.0) for index in chosen)


@settings(max_examples=50)
@given(queries=st.integers(1, 30), budget=st.integers(0, 200), seed=st.integers(0, 999))
def test_allocations_spend_the_budget_and_stay_below_the_bound(queries: int, budget: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = rng.integers(1, 11, queries)
    ndcg = rng.random((queries, 11))
    for query, limit in enumerate(limits):
        ndcg[query, limit:] = ndcg[query, limit]
    spent = allocate(rng.random((queries, 11)) + 0.1, limits, budget)
    assert (spent <= limits).all()
    assert spent.sum() == min(budget, limits.sum())
    reached = ndcg[np.arange(queries), spent].mean()
    assert upper_bound(ndcg, budget / queries).mean() >= reached - 1e-9


def test_the_bound_is_the_best_allocation_where_one_window_helps_one_query() -> None:
    ndcg = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert upper_bound(ndcg, 0.5).mean() == pytest.approx((0.8 + 0.5) / 2)
    assert upper_bound(ndcg, 0.0).mean() == pytest.approx((0.2 + 0.5) / 2)


@pytest.mark.parametrize("windows", [1, 4, 6, 9])
async def test_the_state_after_each_window_of_active_is_its_ranking_with_that_many(windows: int) -> None:
    query = judged_query(3)
    order, uncertainty = (await active_states(NoisyOracle(query, NOISE, seed=0), 100, 60))[windows]
    ranking = await Active(depth=60, max_calls=windows).rank(100, NoisyOracle(query, NOISE, seed=0).rank_window)
    assert order == list(ranking.order)[:60]
    assert ranking.stability == pytest.approx(1 - uncertainty["errors"])


@pytest.mark.parametrize("copies", [1, 2, 5])
async def test_the_state_after_each_copy_of_a_window_is_the_consensus_of_that_many(copies: int) -> None:
    query = judged_query(3, 20)
    order, uncertainty = (await consensus_states(NoisyOracle(query, NOISE, seed=0), 20))[copies]
    strategy = ShuffleConsensus(depth=20, shuffles=copies)
    ranking = as_ranking(await strategy.rank(20, NoisyOracle(query, NOISE, seed=0).rank_window))
    assert order == list(ranking.order)
    if copies > 1:
        assert uncertainty["pairs"] == 1 - (ranking.stability or 0)


def test_the_expected_regret_matches_sampling() -> None:
    rng = np.random.default_rng(0)
    mean, deviation = np.linspace(1.0, -1.0, 12)[None], rng.uniform(0.3, 1.0, (1, 12))
    discount = 1 / np.log2(np.arange(2, 14))
    discount[10:] = 0
    draws = rng.normal(mean, deviation, (20_000, 12))
    gains = np.maximum(0.0, draws[:, None, :] - draws[:, :, None]).mean(axis=0) * (discount[:, None] - discount)
    assert expected_regret(mean, deviation)[0] == pytest.approx(np.triu(gains, 1).sum(), rel=0.02)


def test_the_noise_can_differ_by_query() -> None:
    queries = [judged_query(number) for number in range(200)]
    assert {noise_of(query, NOISE, 0.0) for query in queries} == {NOISE}
    logarithms = np.log([noise_of(query, NOISE, 0.5).deviation for query in queries])
    assert logarithms.std() == pytest.approx(0.5, abs=0.1)
    assert logarithms.mean() == pytest.approx(0.0, abs=0.1)


def test_a_table_row_has_the_cells_of_the_chosen_setting() -> None:
    queries = [judged_query(number) for number in range(3)]
    qrels = {q.query_id: dict(zip(q.doc_ids, q.grades, strict=True)) for q in queries}
    runs = simulate(queries, qrels, NOISE, 2, partial(active_states, depth=40))
    assert runs.windows.min() >= 3
    assert (runs.ndcg[:, :, 0] < runs.ndcg[:, :, 12]).any(), "windows help"
    levels = {"low noise": dict.fromkeys((40, 60, 100), runs)}
    setting = choose(levels, 3)
    cells = row("TREC DL 2020", "low noise", levels["low noise"], setting).split(" | ")
    assert cells[:4] == ["| TREC DL 2020", "low", "3", "40"]
    assert len(cells) == 11
