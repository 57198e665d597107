"""Strategies that rank by scores, for any scores."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.ranking.strategies.base import as_ranking, needs_scores
from corpus_reranker.ranking.strategies.groupwise import Groupwise
from corpus_reranker.ranking.strategies.pointwise import Pointwise
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class

ALL = [Pointwise(), Pointwise(depth=3), Groupwise(), Groupwise(window=4, depth=30, shuffles=3)]


def test_every_registered_strategy_by_scores_is_tested() -> None:
    by_score = {cls for cls in map(strategy_class, STRATEGIES) if needs_scores(cls)}  # type: ignore[arg-type]
    assert {type(strategy) for strategy in ALL} == by_score


class Scorer:
    """A `score_window` that records its windows; `score` maps an index and the number of the window to a score."""

    def __init__(self, score: Callable[[int, int], float | None]) -> None:
        self.windows: list[list[int]] = []
        self._score = score

    async def score_window(self, indices: Sequence[int], start: int) -> list[float | None]:
        assert start == min(indices)
        self.windows.append(list(indices))
        number = len(self.windows)
        return [self._score(index, number) for index in indices]


@settings(max_examples=30)
@given(num_candidates=st.integers(1, 120), seed=st.integers(0, 99))
@pytest.mark.parametrize("strategy", ALL, ids=repr)
async def test_windows_are_valid_and_the_order_is_that_of_the_scores(
    strategy: Pointwise | Groupwise, num_candidates: int, seed: int
) -> None:
    values = random.Random(seed).choices([None, 0.0, 1.0, 2.5, -1.0], k=num_candidates)
    scorer = Scorer(lambda index, number: values[index])
    ranking = as_ranking(await strategy.rank(num_candidates, scorer.score_window))
    depth = min(num_candidates, strategy.depth)
    assert len(scorer.windows) == strategy.max_windows(num_candidates)
    assert all(1 <= len(window) <= strategy.max_window for window in scorer.windows)
    assert sorted(ranking.order) == list(range(num_candidates))
    assert ranking.llm_scores == [*values[:depth], *[None] * (num_candidates - depth)]
    scored = sorted((i for i in range(depth) if values[i] is not None), key=lambda i: (-(values[i] or 0.0), i))
    unscored = [i for i in range(depth) if values[i] is None]
    assert list(ranking.order) == [*scored, *unscored, *range(depth, num_candidates)]


async def test_groups_are_shuffled_anew_and_their_scores_averaged() -> None:
    strategy = Groupwise(window=5, depth=20, shuffles=3)
    scorer = Scorer(lambda index, number: float(number))
    ranking = as_ranking(await strategy.rank(20, scorer.score_window))
    rounds = [scorer.windows[start : start + 4] for start in (0, 4, 8)]
    for groups in rounds:
        assert sorted(index for group in groups for index in group) == list(range(20))
    assert rounds[0] != rounds[1] != rounds[2]
    numbers = [[n for n, window in enumerate(scorer.windows, 1) if index in window] for index in range(20)]
    assert ranking.llm_scores == pytest.approx([sum(each) / 3 for each in numbers])
    again = Scorer(lambda index, number: 0.0)
    await strategy.rank(20, again.score_window)
    assert again.windows == scorer.windows
