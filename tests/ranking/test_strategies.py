"""What every strategy promises, whatever the answers; and what each promises when they are right."""

import asyncio
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.ranking.strategies.active import Active
from corpus_reranker.ranking.strategies.base import Strategy, rank_windows_shuffled
from corpus_reranker.ranking.strategies.full_list import FullList
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class
from corpus_reranker.ranking.strategies.shuffle_consensus import ShuffleConsensus
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.strategies.top_down import TopDown
from corpus_reranker.ranking.strategies.tournament import Tournament
from corpus_reranker.types import Completion, Prompt, SamplingParams
from helpers.scripts import completion, rerank, shown_indices

ALL: list[Strategy] = [
    SingleWindow(),
    SingleWindow(window=2),
    FullList(),
    SlidingWindow(),
    SlidingWindow(window=10, stride=5, passes=2),
    SlidingWindow(window=4, stride=3, depth=1000, passes=3, stop_when_stable=True),
    TopDown(),
    TopDown(window=5, depth=1000, cutoff=2, rounds=4),
    TopDown(window=2, cutoff=1),
    Tournament(),
    Tournament(rounds=3),
    Tournament(window=3, depth=1000, survivors=(7, 2)),
    Active(),
    Active(window=5, depth=30, cutoff=3, max_calls=3),
    Active(window=20, max_calls=12, tolerance=0.0001),
    ShuffleConsensus(),
    ShuffleConsensus(window=4, stride=2, depth=20, shuffles=4),
]
IDS = [f"{number}-{type(strategy).__name__}" for number, strategy in enumerate(ALL)]


class Desk:
    """An `ask` that records its windows and answers them by `answer(number of the window, indices)`."""

    def __init__(self, answer: Callable[[int, list[int]], list[int]], delays: random.Random | None = None) -> None:
        self.windows: list[tuple[list[int], int]] = []
        self._answer = answer
        self._delays = delays

    async def ask(self, indices: Sequence[int], start: int) -> list[int]:
        number = len(self.windows)
        self.windows.append((list(indices), start))
        for _ in range(self._delays.randrange(4) if self._delays else 0):
            await asyncio.sleep(0)  # lets windows asked later be answered earlier
        return self._answer(number, list(indices))


def haphazard(seed: int) -> Callable[[int, list[int]], list[int]]:
    """Any order, sometimes the given one, as an unanswered window has."""

    def answer(number: int, indices: list[int]) -> list[int]:
        rng = random.Random(f"{seed}/{number}/{indices}")
        return indices if rng.random() < 0.2 else rng.sample(indices, len(indices))

    return answer


def perfect(relevance: Sequence[float]) -> Callable[[int, list[int]], list[int]]:
    return lambda number, indices: sorted(indices, key=lambda index: -relevance[index])


def best_first(relevance: Sequence[float]) -> list[int]:
    return sorted(range(len(relevance)), key=lambda index: -relevance[index])


def test_every_registered_strategy_is_tested_here() -> None:
    assert {type(strategy) for strategy in ALL} == {strategy_class(name) for name in STRATEGIES}


@settings(max_examples=40)
@given(num_candidates=st.one_of(st.integers(1, 45), st.sampled_from([99, 100, 101, 130])), seed=st.integers(0, 999))
@example(1, 0)
@example(2, 0)
@example(20, 0)
@example(21, 0)
@example(100, 0)
@example(1000, 0)
@pytest.mark.parametrize("strategy", ALL, ids=IDS)
async def test_whatever_the_answers(strategy: Strategy, num_candidates: int, seed: int) -> None:
    desk = Desk(haphazard(seed))
    order = await strategy.rank(num_candidates, desk.ask)
    assert sorted(order) == list(range(num_candidates))
    assert len(desk.windows) <= strategy.max_windows(num_candidates)
    for indices, start in desk.windows:
        assert 1 <= len(indices) <= strategy.max_window
        assert len(set(indices)) == len(indices)
        assert 0 <= start < num_candidates

    slower = Desk(haphazard(seed), delays=random.Random(seed + 1))
    assert await strategy.rank(num_candidates, slower.ask) == order
    assert slower.windows == desk.windows, "which window is answered first changed what was asked"


@pytest.mark.parametrize("num_candidates", [1, 2, 7, 20, 21, 100])
@pytest.mark.parametrize("strategy", ALL, ids=IDS)
async def test_without_answers_the_first_stage_stands(strategy: Strategy, num_candidates: int) -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        raise RequestError("no")

    result = await rerank(num_candidates, generate, strategy)
    assert list(result.order) == list(range(num_candidates))
    assert result.status == ("failed" if num_candidates > 1 else "complete")


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
async def test_a_dead_engine_ends_the_query(strategy: Strategy) -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        if 0 in shown_indices(prompt):
            raise EngineDeadError("gone")
        return completion("nothing")

    with pytest.raises(EngineDeadError, match="gone"):
        await rerank(50, generate, strategy)


PROMISES: list[tuple[Strategy, Callable[[int], int], Callable[[int], int]]] = [
    # strategy, how many of the first stage it ranks, how many of their best it promises to put first in order
    (SingleWindow(), lambda n: 20, lambda n: 20),
    (FullList(), lambda n: 100, lambda n: 100),
    (SlidingWindow(), lambda n: 100, lambda n: 10),
    (SlidingWindow(window=10, stride=5, passes=2), lambda n: 100, lambda n: 10),
    (SlidingWindow(window=20, stride=10, depth=1000), lambda n: 1000, lambda n: 10),
    (ShuffleConsensus(), lambda n: 100, lambda n: 10),
    (TopDown(rounds=100), lambda n: 100, lambda n: 10),
    (TopDown(depth=1000, cutoff=15, rounds=1000), lambda n: 1000, lambda n: 15),
    (TopDown(window=3, cutoff=1, rounds=1000), lambda n: 100, lambda n: 1),
    (Tournament(), lambda n: 100, lambda n: 20 if n <= 20 else 1),
    (Tournament(window=4, depth=1000, rounds=2), lambda n: 1000, lambda n: 4 if n <= 4 else 1),
    (Active(), lambda n: 20, lambda n: 20 if n <= 20 else 0),
]


@settings(max_examples=30)
@given(num_candidates=st.one_of(st.integers(1, 45), st.sampled_from([100, 137])), seed=st.integers(0, 999))
@example(1, 0)
@example(2, 0)
@example(20, 0)
@example(21, 0)
@example(100, 0)
@example(1000, 0)
@pytest.mark.parametrize(
    ("strategy", "ranked", "promised"), PROMISES, ids=[f"{n}-{type(p[0]).__name__}" for n, p in enumerate(PROMISES)]
)
async def test_right_answers_put_the_best_first(
    strategy: Strategy, ranked: Callable[[int], int], promised: Callable[[int], int], num_candidates: int, seed: int
) -> None:
    relevance = random.Random(seed).sample(range(num_candidates), num_candidates)
    order = await strategy.rank(num_candidates, Desk(perfect(relevance)).ask)
    within = min(num_candidates, ranked(num_candidates))
    count = min(within, promised(num_candidates))
    assert order[:count] == best_first(relevance[:within])[:count]


@given(num_candidates=st.integers(21, 130), seed=st.integers(0, 999))
async def test_top_down_keeps_its_promise_in_one_round_if_the_winners_fit(num_candidates: int, seed: int) -> None:
    relevance = random.Random(seed).sample(range(num_candidates), num_candidates)
    depth = min(num_candidates, 100)
    pivot = sorted(relevance[:20], reverse=True)[9]
    winners = sum(value > pivot for value in relevance[20:depth])
    order = await TopDown().rank(num_candidates, Desk(perfect(relevance)).ask)
    if winners <= 20 - 9:
        assert order[:10] == best_first(relevance[:depth])[:10]
    else:
        assert all(relevance[index] > pivot for index in order[: 9 + winners])


async def test_top_down_asks_few_windows_and_only_three_deep() -> None:
    relevance = [float(-index) for index in range(100)]
    sorted_already = Desk(perfect(relevance))
    await TopDown().rank(100, sorted_already.ask)
    assert [len(indices) for indices, _ in sorted_already.windows] == [20, 17, 17, 17, 17, 17], (
        "nothing beats the pivot"
    )
    reversed_list = Desk(perfect(relevance[::-1]))
    order = await TopDown(depth=96).rank(100, reversed_list.ask)
    assert order[0] == 95, "all 76 beat the pivot; the best placed of each partition go into the last window"
    assert [len(indices) for indices, _ in reversed_list.windows] == [20] * 6
    assert TopDown(depth=96).max_windows(100) == 6
    assert TopDown().max_windows(100) == 7


async def test_sliding_stops_when_a_pass_changes_nothing() -> None:
    relevance = random.Random(1).sample(range(60), 60)
    retry_transient_errors, eager = Desk(perfect(relevance)), Desk(perfect(relevance))
    order = await SlidingWindow(passes=9).rank(60, retry_transient_errors.ask)
    assert await SlidingWindow(passes=9, stop_when_stable=True).rank(60, eager.ask) == order
    assert len(retry_transient_errors.windows) == 9 * 5
    assert len(eager.windows) < 9 * 5


async def test_active_finds_the_top_and_stops_when_sure() -> None:
    found, requested = [], []
    for seed in range(20):
        relevance = random.Random(seed).sample(range(100), 100)
        desk = Desk(perfect(relevance))
        order = await Active(max_calls=40).rank(100, desk.ask)
        found.append(len(set(order[:10]) & set(best_first(relevance)[:10])))
        requested.append(len(desk.windows))
    assert sum(found) / len(found) >= 9.0
    assert max(requested) < 40


async def test_active_never_asks_more_than_its_budget() -> None:
    for budget in (1, 4, 5, 6, 9):
        desk = Desk(haphazard(3))
        await Active(max_calls=budget).rank(100, desk.ask)
        assert len(desk.windows) == budget
        assert Active(max_calls=budget).max_windows(100) == budget


async def test_consensus_over_shuffles_removes_a_bias_of_place() -> None:
    """An LLM that takes what it sees last for up to 11 of 20 grades worse than it is."""
    errors = {}
    for strategy in (SingleWindow(), ShuffleConsensus(depth=20, shuffles=9)):
        total = 0
        for seed in range(20):
            relevance = random.Random(seed).sample(range(20), 20)

            def biased(number: int, indices: list[int], relevance: list[int] = relevance) -> list[int]:
                return sorted(
                    indices, key=lambda shown_index: 0.6 * indices.index(shown_index) - relevance[shown_index]
                )

            order = await strategy.rank(20, Desk(biased).ask)
            total += sum(abs(position - (19 - relevance[index])) for position, index in enumerate(order))
        errors[type(strategy).__name__] = total
    assert errors["ShuffleConsensus"] < errors["SingleWindow"] / 2


async def test_an_unanswered_shuffled_window_comes_back_in_its_own_order() -> None:
    silent = Desk(lambda number, indices: indices)
    windows: list[tuple[Sequence[int], int]] = [(range(10), 0), ([3, 1, 2], 1)]
    assert await rank_windows_shuffled(silent.ask, windows, "seed") == [list(range(10)), [3, 1, 2]]
    assert silent.windows[0][0] != list(range(10))
    again = Desk(lambda number, indices: indices)
    await rank_windows_shuffled(again.ask, windows, "seed")
    assert again.windows == silent.windows


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("single_window", {"window": 1}),
        ("sliding_window", {"stride": 21}),
        ("sliding_window", {"depth": 19}),
        ("sliding_window", {"passes": 0}),
        ("top_down", {"cutoff": 20}),
        ("top_down", {"rounds": 0}),
        ("top_down", {"depth": 10}),
        ("tournament", {"survivors": (5, 5)}),
        ("tournament", {"survivors": ()}),
        ("tournament", {"rounds": 0}),
        ("active", {"max_calls": 0}),
        ("active", {"tolerance": 0.5}),
        ("active", {"cutoff": 0}),
        ("shuffle_consensus", {"shuffles": 0}),
        ("shuffle_consensus", {"stride": 0}),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|need|smaller"):
        dataclasses.replace(strategy_class(name)(), **options)  # type: ignore[type-var]


def test_an_unknown_strategy_is_named() -> None:
    for name in ("slidng_window", "no_such_module:Strategy", "corpus_reranker.ranking.windows:NoSuchClass"):
        with pytest.raises(ValueError, match=name):
            strategy_class(name)
