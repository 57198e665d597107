"""Rank aggregation: the Kemeny consensus of several rankings, exact for small groups and a local optimum beyond."""

from collections.abc import Container, Sequence
from itertools import accumulate, combinations
from math import comb

EXACT_LIMIT = 8
"""Largest group that is ordered exactly, by dynamic programming over 2^n subsets."""


def kemeny_consensus(rankings: Sequence[Sequence[int]]) -> list[int]:
    """The order with the smallest total Kendall distance to `rankings`, each a permutation of the same items.

    If most rankings place every item of one group before every item of another, the optimum does too (the extended
    Condorcet criterion: Truchon, "An extension of the Condorcet criterion and Kemeny orders", 1998). Each such group is
    solved separately: exactly up to EXACT_LIMIT items, else by Borda's order improved by local Kemenization (Dwork et
    al., "Rank aggregation methods for the Web", 2001). Ties follow the order of the first ranking.
    """
    before = _pair_counts(rankings)
    consensus: list[int] = []
    for group in _majority_groups(_borda(rankings), before):
        consensus += _exact(group, before) if len(group) <= EXACT_LIMIT else _local_kemenization(group, before)
    return consensus


def agreeing_pairs(rankings: Sequence[Sequence[int]], consensus: Sequence[int]) -> dict[int, int]:
    """For each item: how many of its pairs, over all `rankings`, are ordered as in `consensus`."""
    before, agreeing = _pair_counts(rankings), dict.fromkeys(consensus, 0)
    for better, worse in combinations(consensus, 2):
        agreeing[better] += before[better][worse]
        agreeing[worse] += before[better][worse]
    return agreeing


def majority_probabilities(
    rankings: Sequence[Sequence[int]], consensus: Sequence[int], top: Container[int]
) -> list[float]:
    """For each pair with an item of `top`: the probability that most rankings order it as `consensus` does.

    `rankings` are a sample. The share of all rankings that order a pair as `consensus` does has a uniform prior. If m
    of n sampled rankings do, its posterior is Beta(1 + m, 1 + n - m), and the probability that it exceeds 1/2 is that
    of at most m heads in n + 1 tosses of a fair coin.
    """
    before, count = _pair_counts(rankings), len(rankings)
    heads = accumulate(comb(count + 1, agreeing) for agreeing in range(count + 1))
    probability = [number / 2 ** (count + 1) for number in heads]
    pairs = combinations(consensus, 2)
    return [probability[before[better][worse]] for better, worse in pairs if better in top or worse in top]


_PairCounts = dict[int, dict[int, int]]
"""counts[a][b]: the number of rankings with a before b."""


def _pair_counts(rankings: Sequence[Sequence[int]]) -> _PairCounts:
    counts: _PairCounts = {item: dict.fromkeys(rankings[0], 0) for item in rankings[0]}
    for ranking in rankings:
        for position, item in enumerate(ranking):
            row = counts[item]
            for later in ranking[position + 1 :]:
                row[later] += 1
    return counts


def _borda(rankings: Sequence[Sequence[int]]) -> list[int]:
    total = dict.fromkeys(rankings[0], 0)
    for ranking in rankings:
        for position, item in enumerate(ranking):
            total[item] += position
    return sorted(rankings[0], key=total.__getitem__)


def _majority_groups(items: Sequence[int], before: _PairCounts) -> list[list[int]]:
    """The smallest groups such that each wins every pair against all later groups by strict majority, best first."""

    def unbeaten_by(item: int) -> int:
        return sum(before[item][other] >= before[other][item] for other in items)

    ordered = sorted(items, key=unbeaten_by, reverse=True)
    groups: list[list[int]] = [[]]
    for position, item in enumerate(ordered, 1):
        groups[-1].append(item)
        rest = ordered[position:]
        if rest and all(before[a][b] > before[b][a] for a in groups[-1] for b in rest):
            groups.append([])
    rank = {item: position for position, item in enumerate(items)}
    return [sorted(group, key=rank.__getitem__) for group in groups]


def _exact(group: Sequence[int], before: _PairCounts) -> list[int]:
    """Dynamic programming (Held-Karp): the best order of a set is the best order of a subset plus one last item."""
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for members in range(1, 1 << len(group)):
        options = []
        for position, item in reversed(list(enumerate(group))):
            if members >> position & 1:
                cost, order = best[members ^ (1 << position)]
                options.append((cost + sum(before[item][other] for other in order), (*order, item)))
        best.append(min(options, key=lambda option: option[0]))
    return list(best[-1][1])


def _local_kemenization(group: Sequence[int], before: _PairCounts) -> list[int]:
    """Insertion sort by majority: no swap of adjacent items improves the result."""
    order: list[int] = []
    for item in group:
        position = len(order)
        while position and before[item][order[position - 1]] > before[order[position - 1]][item]:
            position -= 1
        order.insert(position, item)
    return order
