"""Invariants of every strategy for any answers, and its guarantees for correct ones."""

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
from corpus_reranker.ranking.strategies.base import (
    RankWindow,
    Strategy,
    as_ranking,
    needs_scores,
    rank_windows_shuffled,
)
from corpus_reranker.ranking.strategies.full_list import FullList
from corpus_reranker.ranking.strategies.pairwise import Pairwise
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class
from corpus_reranker.ranking.strategies.setwise_heapsort import SetwiseHeapsort
from corpus_reranker.ranking.strategies.shuffle_consensus import ShuffleConsensus
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.strategies.top_down import TopDown
from corpus_reranker.ranking.strategies.tournament import Tournament
from corpus_reranker.types import Completion, Generate, Prompt, Ranking, SamplingParams
from helpers.scripts import answer, completion, oracle, rerank, shown_indices

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
    SetwiseHeapsort(),
    SetwiseHeapsort(num_child=1, k=3, depth=30),
    SetwiseHeapsort(num_child=19, k=1000, depth=1000),
    Pairwise(k=5, depth=30),
    Pairwise(method="sliding", k=2),
]
IDS = [f"{number}-{type(strategy).__name__}" for number, strategy in enumerate(ALL)]


class RecordingLLM:
    """A `rank_window` that records its windows and orders them by `answer(number of the window, indices)`."""

    def __init__(self, answer: Callable[[int, list[int]], list[int]], delays: random.Random | None = None) -> None:
        self.windows: list[tuple[list[int], int]] = []
        self._answer = answer
        self._delays = delays

    async def rank_window(self, indices: Sequence[int], start: int) -> list[int]:
        number = len(self.windows)
        self.windows.append((list(indices), start))
        for _ in range(self._delays.randrange(4) if self._delays else 0):
            await asyncio.sleep(0)  # a later window can finish earlier
        return self._answer(number, list(indices))


def random_answers(seed: int) -> Callable[[int, list[int]], list[int]]:
    """Any order, sometimes the given one, as for a window without an answer."""

    def answer(number: int, indices: list[int]) -> list[int]:
        rng = random.Random(f"{seed}/{number}/{indices}")
        return indices if rng.random() < 0.2 else rng.sample(indices, len(indices))

    return answer


def perfect_answers(relevance: Sequence[float]) -> Callable[[int, list[int]], list[int]]:
    return lambda number, indices: sorted(indices, key=lambda index: -relevance[index])


def best_first(relevance: Sequence[float]) -> list[int]:
    return sorted(range(len(relevance)), key=lambda index: -relevance[index])


def test_every_registered_strategy_is_tested() -> None:
    by_order = {cls for cls in map(strategy_class, STRATEGIES) if not needs_scores(cls)}  # type: ignore[arg-type]
    assert {type(strategy) for strategy in ALL} == by_order


@settings(max_examples=40)
@given(num_candidates=st.one_of(st.integers(1, 45), st.sampled_from([99, 100, 101, 130])), seed=st.integers(0, 999))
@example(1, 0)
@example(2, 0)
@example(20, 0)
@example(21, 0)
@example(100, 0)
@example(1000, 0)
@pytest.mark.parametrize("strategy", ALL, ids=IDS)
async def test_order_and_windows_are_valid_for_any_answers(strategy: Strategy, num_candidates: int, seed: int) -> None:
    llm = RecordingLLM(random_answers(seed))
    ranking = as_ranking(await strategy.rank(num_candidates, llm.rank_window))
    order = ranking.order
    assert sorted(order) == list(range(num_candidates))
    assert len(llm.windows) <= strategy.max_windows(num_candidates)
    for indices, start in llm.windows:
        assert 1 <= len(indices) <= strategy.max_window
        assert len(set(indices)) == len(indices)
        assert 0 <= start < num_candidates

    slower = RecordingLLM(random_answers(seed), delays=random.Random(seed + 1))
    assert as_ranking(await strategy.rank(num_candidates, slower.rank_window)) == ranking
    assert slower.windows == llm.windows, "the windows depend on which of them finishes first"


@pytest.mark.parametrize("num_candidates", [1, 2, 7, 20, 21, 100])
@pytest.mark.parametrize("strategy", ALL, ids=IDS)
async def test_first_stage_order_is_kept_without_answers(strategy: Strategy, num_candidates: int) -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        raise RequestError("no")

    result = await rerank(num_candidates, generate, strategy)
    assert list(result.order) == list(range(num_candidates))
    assert result.status == ("failed" if num_candidates > 1 else "complete")


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
async def test_dead_engine_ends_the_query(strategy: Strategy) -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        if 0 in shown_indices(prompt):
            raise EngineDeadError("gone")
        return completion("nothing")

    with pytest.raises(EngineDeadError, match="gone"):
        await rerank(50, generate, strategy)


GUARANTEES: list[tuple[Strategy, Callable[[int], int], Callable[[int], int]]] = [
    # strategy, depth, number of best candidates that it puts first in order
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
    (SetwiseHeapsort(), lambda n: 100, lambda n: 10),
    (SetwiseHeapsort(num_child=19, k=137, depth=137), lambda n: 137, lambda n: 137),
    (Pairwise(), lambda n: 100, lambda n: 10),
    (Pairwise(method="sliding", k=3, depth=50), lambda n: 50, lambda n: 3),
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
    ("strategy", "ranked", "guaranteed"),
    GUARANTEES,
    ids=[f"{n}-{type(p[0]).__name__}" for n, p in enumerate(GUARANTEES)],
)
async def test_correct_answers_put_the_best_first(
    strategy: Strategy, ranked: Callable[[int], int], guaranteed: Callable[[int], int], num_candidates: int, seed: int
) -> None:
    relevance = random.Random(seed).sample(range(num_candidates), num_candidates)
    order = as_ranking(await strategy.rank(num_candidates, RecordingLLM(perfect_answers(relevance)).rank_window)).order
    within = min(num_candidates, ranked(num_candidates))
    count = min(within, guaranteed(num_candidates))
    assert order[:count] == best_first(relevance[:within])[:count]


@given(num_candidates=st.integers(21, 130), seed=st.integers(0, 999))
async def test_top_down_is_exact_in_one_round_if_the_winners_fit(num_candidates: int, seed: int) -> None:
    relevance = random.Random(seed).sample(range(num_candidates), num_candidates)
    depth = min(num_candidates, 100)
    pivot = sorted(relevance[:20], reverse=True)[9]
    winners = sum(value > pivot for value in relevance[20:depth])
    order = await TopDown().rank(num_candidates, RecordingLLM(perfect_answers(relevance)).rank_window)
    if winners <= 20 - 9:
        assert order[:10] == best_first(relevance[:depth])[:10]
    else:
        assert all(relevance[index] > pivot for index in order[: 9 + winners])


async def test_top_down_has_few_windows_in_a_chain_of_three() -> None:
    relevance = [float(-index) for index in range(100)]
    sorted_already = RecordingLLM(perfect_answers(relevance))
    await TopDown().rank(100, sorted_already.rank_window)
    assert [len(indices) for indices, _ in sorted_already.windows] == [20, 17, 17, 17, 17, 17], (
        "nothing beats the pivot"
    )
    reversed_list = RecordingLLM(perfect_answers(relevance[::-1]))
    order = await TopDown(depth=96).rank(100, reversed_list.rank_window)
    assert order[0] == 95, "all 76 beat the pivot; the best of each partition enter the last window"
    assert [len(indices) for indices, _ in reversed_list.windows] == [20] * 6
    assert TopDown(depth=96).max_windows(100) == 6
    assert TopDown().max_windows(100) == 7


async def test_sliding_window_stops_after_a_pass_without_change() -> None:
    relevance = random.Random(1).sample(range(60), 60)
    all_passes, stopping = RecordingLLM(perfect_answers(relevance)), RecordingLLM(perfect_answers(relevance))
    order = await SlidingWindow(passes=9).rank(60, all_passes.rank_window)
    assert await SlidingWindow(passes=9, stop_when_stable=True).rank(60, stopping.rank_window) == order
    assert len(all_passes.windows) == 9 * 5
    assert len(stopping.windows) < 9 * 5


async def test_active_finds_the_top_and_stops_when_certain() -> None:
    found, requested = [], []
    for seed in range(20):
        relevance = random.Random(seed).sample(range(100), 100)
        llm = RecordingLLM(perfect_answers(relevance))
        order = (await Active(max_calls=40).rank(100, llm.rank_window)).order
        found.append(len(set(order[:10]) & set(best_first(relevance)[:10])))
        requested.append(len(llm.windows))
    assert sum(found) / len(found) >= 9.0
    assert max(requested) < 40


async def test_active_keeps_its_window_budget() -> None:
    for budget in (1, 4, 5, 6, 9):
        llm = RecordingLLM(random_answers(3))
        await Active(max_calls=budget).rank(100, llm.rank_window)
        assert len(llm.windows) == budget
        assert Active(max_calls=budget).max_windows(100) == budget


@settings(max_examples=15)
@given(windows=st.integers(1, 12), more=st.integers(0, 8), seed=st.integers(0, 999))
@pytest.mark.parametrize(
    "with_windows",
    [lambda count: Active(max_calls=count), lambda count: ShuffleConsensus(depth=20, shuffles=count)],
    ids=["active", "shuffle_consensus"],
)
async def test_more_windows_continue_from_the_cached_completions(
    with_windows: Callable[[int], Strategy], windows: int, more: int, seed: int
) -> None:
    def llm(cache: dict[tuple[str, SamplingParams], Completion]) -> Generate:
        async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
            size, rng = len(shown_indices(prompt)), random.Random(f"{seed}/{prompt.text}/{params.seed}")
            text = "no answer" if rng.random() < 0.2 else answer(rng.sample(range(size), size))
            return cache.setdefault((prompt.text, params), completion(text))

        return generate

    cached: dict[tuple[str, SamplingParams], Completion] = {}
    in_one_go: dict[tuple[str, SamplingParams], Completion] = {}
    stopped = await rerank(100, llm(cached), with_windows(windows))
    continued = await rerank(100, llm(cached), with_windows(windows + more))
    expected = await rerank(100, llm(in_one_go), with_windows(windows + more))
    assert cached == in_one_go, "the requests of the stopped run are among those of the longer run"
    assert continued.order == expected.order
    assert (continued.beliefs, continued.stability) == (expected.beliefs, expected.stability)
    assert len(continued.windows) >= len(stopped.windows)


continuing_strategies = st.one_of(
    st.builds(
        Active,
        window=st.integers(2, 20),
        depth=st.integers(21, 60),
        cutoff=st.integers(1, 12),
        max_calls=st.just(8),
        min_uncertain=st.integers(1, 12),
    ),
    st.builds(
        lambda window, cutoff: ShuffleConsensus(window, stride=1, depth=window, shuffles=8, cutoff=cutoff),
        st.integers(2, 20),
        st.integers(1, 25),
    ),
)


@settings(max_examples=80)
@given(strategy=continuing_strategies, failures=st.sampled_from([0.0, 0.3, 0.9]), seed=st.integers(0, 999))
async def test_the_stability_of_a_window_is_that_of_a_query_that_ends_with_it(
    strategy: Active | ShuffleConsensus, failures: float, seed: int
) -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        size, rng = len(shown_indices(prompt)), random.Random(f"{seed}/{prompt.text}/{params.seed}")
        return completion("no answer" if rng.random() < failures else answer(rng.sample(range(size), size)))

    result = await rerank(60, generate, strategy)
    stabilities = [each.stability for each in result.windows]
    for windows, stability in enumerate(stabilities, 1):
        ended = await rerank(60, generate, strategy.with_max_windows(windows))
        assert len(ended.windows) == windows
        assert ended.stability == stability
    assert (stabilities[-1] is None) == (result.status == "failed")


async def test_windows_have_a_stability_only_if_the_strategy_measures_it() -> None:
    generate = oracle(lambda index: index)
    for strategy, num_candidates in ((SlidingWindow(), 40), (ShuffleConsensus(), 40), (Active(), 20)):
        result = await rerank(num_candidates, generate, strategy)
        assert {each.stability for each in result.windows} == {None}

    class WrongNumber(Active):
        async def rank(self, num_candidates: int, rank_window: RankWindow) -> Ranking:
            return dataclasses.replace(await Active().rank(num_candidates, rank_window), window_stability=[0.5])

    with pytest.raises(ValueError, match="window_stability has 1 values for 9 windows"):
        await rerank(100, generate, WrongNumber())


async def test_shuffle_consensus_reduces_position_bias() -> None:
    """An LLM that ranks the passage it sees last up to 11 of 20 positions too low."""
    errors = {}
    for strategy in (SingleWindow(), ShuffleConsensus(depth=20, shuffles=9)):
        total = 0
        for seed in range(20):
            relevance = random.Random(seed).sample(range(20), 20)

            def biased(number: int, indices: list[int], relevance: list[int] = relevance) -> list[int]:
                return sorted(
                    indices, key=lambda shown_index: 0.6 * indices.index(shown_index) - relevance[shown_index]
                )

            order = as_ranking(await strategy.rank(20, RecordingLLM(biased).rank_window)).order
            total += sum(abs(position - (19 - relevance[index])) for position, index in enumerate(order))
        errors[type(strategy).__name__] = total
    assert errors["ShuffleConsensus"] < errors["SingleWindow"] / 2


async def test_active_gives_beliefs_in_the_order_of_the_ranking_and_its_stability() -> None:
    relevance = random.Random(5).sample(range(100), 100)
    ranking = await Active(depth=60).rank(100, RecordingLLM(perfect_answers(relevance)).rank_window)
    assert ranking.beliefs is not None
    ranked = [ranking.beliefs[index] for index in ranking.order]
    assert ranked[60:] == [None] * 40
    means = [belief.mean for belief in ranked if belief is not None]
    assert means == sorted(means, reverse=True)
    assert len(means) == 60
    assert all(belief is None or 0 < belief.sd < 1 for belief in ranked), "every window narrows the prior of sd 1"
    assert 0.5 < (ranking.stability or 0) < 1
    more = await Active(depth=60, max_calls=30).rank(100, RecordingLLM(perfect_answers(relevance)).rank_window)
    assert (more.stability or 0) > (ranking.stability or 0), "more windows make the top more certain"
    assert (await Active().rank(20, RecordingLLM(perfect_answers(relevance[:20])).rank_window)).beliefs is None


async def test_shuffle_consensus_gives_agreement_and_stability() -> None:
    strategy = ShuffleConsensus(window=5, stride=5, depth=5, shuffles=3, cutoff=2)
    ranking = await strategy.rank(6, RecordingLLM(perfect_answers(range(6))).rank_window)
    assert (list(ranking.order), ranking.stability) == ([4, 3, 2, 1, 0, 5], 15 / 16)
    assert ranking.agreement == [1.0, 1.0, 1.0, 1.0, 1.0, None]
    assert ranking.window_stability == [3 / 4, 7 / 8, 15 / 16]

    def swaps_two_once(number: int, indices: list[int]) -> list[int]:
        return [0, 1, 2, 4, 3] if number == 0 else [0, 1, 2, 3, 4]

    ranking = await strategy.rank(6, RecordingLLM(swaps_two_once).rank_window)
    pairs_of_one = 3 * 4
    assert ranking.agreement == [1.0, 1.0, 1.0, *[(pairs_of_one - 1) / pairs_of_one] * 2, None]
    assert ranking.stability == 15 / 16, "the copies disagree below the cutoff only"
    all_pairs = dataclasses.replace(strategy, cutoff=5)
    ranking = await all_pairs.rank(6, RecordingLLM(swaps_two_once).rank_window)
    assert ranking.stability == pytest.approx((9 * 15 / 16 + 11 / 16) / 10), "one of ten pairs has two of three copies"
    once = await ShuffleConsensus(shuffles=1).rank(30, RecordingLLM(random_answers(1)).rank_window)
    assert (once.stability, once.agreement, once.window_stability) == (0.75, [None] * 30, None)
    alone = await strategy.rank(1, RecordingLLM(random_answers(1)).rank_window)
    assert (alone.stability, alone.window_stability) == (None, None)


def test_shuffle_consensus_continues_only_on_one_list() -> None:
    assert ShuffleConsensus(depth=20).with_max_windows(7) == ShuffleConsensus(depth=20, shuffles=7)
    with pytest.raises(ValueError, match=r"set strategy\.depth to strategy\.window, 20$"):
        ShuffleConsensus(depth=21).with_max_windows(7)


async def test_shuffled_window_without_an_answer_keeps_its_own_order() -> None:
    unanswered = RecordingLLM(lambda number, indices: indices)
    windows: list[tuple[Sequence[int], int]] = [(range(10), 0), ([3, 1, 2], 1)]
    assert await rank_windows_shuffled(unanswered.rank_window, windows, "seed") == [list(range(10)), [3, 1, 2]]
    assert unanswered.windows[0][0] != list(range(10))
    again = RecordingLLM(lambda number, indices: indices)
    await rank_windows_shuffled(again.rank_window, windows, "seed")
    assert again.windows == unanswered.windows


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
        ("shuffle_consensus", {"cutoff": 0}),
        ("shuffle_consensus", {"stride": 0}),
        ("setwise_heapsort", {"num_child": 0}),
        ("setwise_heapsort", {"k": 101}),
        ("pairwise", {"k": 0}),
        ("pairwise", {"depth": 9}),
        ("pairwise", {"method": "quicksort"}),
    ],
)
def test_invalid_strategy_settings_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|need|smaller"):
        dataclasses.replace(strategy_class(name)(), **options)  # type: ignore[type-var]


def test_unknown_strategy_is_named_in_the_error() -> None:
    for name in ("slidng_window", "no_such_module:Strategy", "corpus_reranker.ranking.windows:NoSuchClass"):
        with pytest.raises(ValueError, match=name):
            strategy_class(name)
