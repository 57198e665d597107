"""Kemeny consensus, compared with all possible orders."""

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.ranking.consensus import EXACT_LIMIT, kemeny_consensus, majority_probabilities


def kendall_distance(first: Sequence[int], second: Sequence[int]) -> int:
    position = {item: position for position, item in enumerate(second)}
    return sum(position[a] > position[b] for a, b in itertools.combinations(first, 2))


def cost(order: Sequence[int], rankings: Sequence[Sequence[int]]) -> int:
    return sum(kendall_distance(order, ranking) for ranking in rankings)


def rankings_of(num_items: int, num_rankings: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.permutations(range(num_items)), min_size=num_rankings, max_size=num_rankings)


@given(st.integers(1, 6).flatmap(lambda items: st.integers(1, 6).flatmap(lambda count: rankings_of(items, count))))
def test_consensus_has_the_smallest_total_distance(rankings: list[list[int]]) -> None:
    consensus = kemeny_consensus(rankings)
    assert cost(consensus, rankings) == min(cost(order, rankings) for order in itertools.permutations(rankings[0]))


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(0, 999))
def test_consensus_of_twenty_items_is_a_local_optimum(num_rankings: int, seed: int) -> None:
    rng = random.Random(seed)
    rankings = [rng.sample(range(20), 20) for _ in range(num_rankings)]
    consensus = kemeny_consensus(rankings)
    assert sorted(consensus) == list(range(20))
    reached = cost(consensus, rankings)
    for position in range(19):
        swapped = [*consensus[:position], consensus[position + 1], consensus[position], *consensus[position + 2 :]]
        assert cost(swapped, rankings) >= reached


def test_groups_separated_by_majority_are_solved_exactly() -> None:
    """Three groups of seven in a list of 21 items, more than EXACT_LIMIT, are each ordered exactly.

    Local Kemenization alone reaches distance 40 for such a group; the optimum is 39.
    """
    group = [[2, 0, 4, 3, 1, 6, 5], [1, 6, 3, 5, 4, 2, 0], [0, 4, 3, 5, 6, 2, 1], [1, 6, 3, 5, 2, 4, 0]]
    group.append([6, 3, 5, 0, 4, 1, 2])
    assert min(cost(order, group) for order in itertools.permutations(range(7))) == 39
    rankings = [[item + 7 * block for block in range(3) for item in ranking] for ranking in group]
    assert len(rankings[0]) > EXACT_LIMIT >= 7
    assert cost(kemeny_consensus(rankings), rankings) == 3 * 39


def test_consensus_follows_agreement_and_majority() -> None:
    assert kemeny_consensus([[3, 1, 2]]) == [3, 1, 2]
    assert kemeny_consensus([[3, 1, 2, 0]] * 2 + [[0, 1, 2, 3]]) == [3, 1, 2, 0]
    assert kemeny_consensus([[0, 1], [1, 0]]) == [0, 1]


@given(agreeing=st.integers(0, 12), others=st.integers(0, 12))
def test_the_probability_of_a_majority_is_that_of_the_posterior(agreeing: int, others: int) -> None:
    from scipy.stats import beta  # a second to import

    if agreeing + others:
        rankings = [[0, 1]] * agreeing + [[1, 0]] * others
        expected = beta.sf(0.5, 1 + agreeing, 1 + others)
        assert majority_probabilities(rankings, [0, 1], [0]) == pytest.approx([expected])


def test_only_pairs_with_an_item_of_the_top_have_a_probability() -> None:
    rankings = [[0, 1, 2, 3], [0, 1, 3, 2]]
    assert majority_probabilities(rankings, [0, 1, 2, 3], [0]) == [7 / 8] * 3
    assert majority_probabilities(rankings, [0, 1, 2, 3], range(4)) == [*[7 / 8] * 5, 1 / 2]
    assert majority_probabilities([[0]], [0], [0]) == []
