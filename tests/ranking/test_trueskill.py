"""The TrueSkill update, compared with the published TrueSkill calculator and with sampling."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.ranking.trueskill import BETA, Gaussian, update_beliefs

PRIOR = Gaussian(0.0, 1.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return _mean([(value - mean) ** 2 for value in values])


def test_two_players_match_the_trueskill_calculator() -> None:
    """Two newcomers at 25 ± 25/3 become 29.205 ± 7.195 and 20.795 ± 7.195 (TrueSkill calculator, no draws)."""
    winner, loser = update_beliefs([PRIOR, PRIOR])
    assert winner.mean == pytest.approx((29.205 - 25) / (25 / 3), abs=1e-3)
    assert loser.mean == pytest.approx((20.795 - 25) / (25 / 3), abs=1e-3)
    assert math.sqrt(winner.variance) == pytest.approx(7.195 / (25 / 3), abs=1e-3)


def test_eight_equal_players_match_sampling() -> None:
    rng = random.Random(0)
    games = []
    for _ in range(5_000):
        players = [(skill + rng.gauss(0, BETA), skill) for skill in (rng.gauss(0, 1) for _ in range(8))]
        games.append([skill for _, skill in sorted(players, reverse=True)])
    for skill, values in zip(update_beliefs([PRIOR] * 8), zip(*games, strict=True), strict=True):
        assert skill.mean == pytest.approx(_mean(values), abs=0.04)
        assert skill.variance == pytest.approx(_variance(values), abs=0.04)


def test_three_unequal_players_match_sampling() -> None:
    skills = [Gaussian(-0.5, 0.8), Gaussian(0.3, 0.5), Gaussian(0.1, 1.0)]
    rng = random.Random(0)
    kept: list[list[float]] = []
    while len(kept) < 5_000:
        drawn = [rng.gauss(skill.mean, math.sqrt(skill.variance)) for skill in skills]
        first, second, third = (value + rng.gauss(0, BETA) for value in drawn)
        if first > second > third:
            kept.append(drawn)
    for number, skill in enumerate(update_beliefs(skills)):
        values = [drawn[number] for drawn in kept]
        assert skill.mean == pytest.approx(_mean(values), abs=0.04)
        assert skill.variance == pytest.approx(_variance(values), abs=0.04)


@given(
    st.lists(
        st.builds(Gaussian, st.floats(-1e4, 1e4), st.floats(1e-3, 1e3)),
        min_size=1,
        max_size=20,
    )
)
def test_posteriors_are_finite_and_never_wider(skills: list[Gaussian]) -> None:
    for before, after in zip(skills, update_beliefs(skills), strict=True):
        assert math.isfinite(after.mean)
        assert 0 < after.variance <= before.variance * (1 + 1e-9)
