"""The TrueSkill update for a game of single players without draws: a ranked window as a game of its passages.

Herbrich, Minka and Graepel, "TrueSkill: A Bayesian skill rating system" (NIPS 2006). A player's performance is the
skill plus Gaussian noise with standard deviation BETA. The order of the game says that each performance exceeds the
next one. Expectation propagation solves the chain of these differences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BETA = 0.5
"""Noise of a performance, in standard deviations of the prior: TrueSkill's 25/6 divided by 25/3."""

_MAX_SWEEPS = 20
"""Bound on the sweeps over the chain. Each passes messages down the chain and up again."""

_CONVERGED = 1e-3
"""The sweeps end once no mean difference changes by more than this, in standard deviations of the prior."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A normal distribution."""

    mean: float
    variance: float

    def __mul__(self, other: "Gaussian") -> "Gaussian":
        """The normalized product of both densities."""
        if math.isinf(other.variance):
            return self
        if math.isinf(self.variance):
            return other
        variance = 1 / (1 / self.variance + 1 / other.variance)
        return Gaussian(variance * (self.mean / self.variance + other.mean / other.variance), variance)

    def above(self, threshold: float) -> float:
        """The probability of a value above `threshold`."""
        return _cdf((self.mean - threshold) / math.sqrt(self.variance))


_UNINFORMATIVE = Gaussian(0.0, math.inf)


def update_beliefs(skills: Sequence[Gaussian]) -> list[Gaussian]:
    """The posterior skills of players after a game that ended in the order of `skills`, best first."""
    performances = [Gaussian(skill.mean, skill.variance + BETA**2) for skill in skills]
    from_below = [_UNINFORMATIVE] * len(skills)  # messages from beating the next player
    from_above = [_UNINFORMATIVE] * len(skills)  # messages from losing to the previous player
    for _ in range(_MAX_SWEEPS):
        change = 0.0
        for better in [*range(len(skills) - 1), *reversed(range(len(skills) - 2))]:
            worse = better + 1
            winner = performances[better] * from_above[better]
            loser = performances[worse] * from_below[worse]
            ahead = _positive_difference(winner.mean - loser.mean, winner.variance + loser.variance)
            change = max(change, abs(ahead.mean - (from_below[better].mean - loser.mean)))
            from_below[better] = Gaussian(loser.mean + ahead.mean, loser.variance + ahead.variance)
            from_above[worse] = Gaussian(winner.mean - ahead.mean, winner.variance + ahead.variance)
        if change < _CONVERGED:
            break
    observed = [above * below for above, below in zip(from_above, from_below, strict=True)]
    return [
        skill * Gaussian(performance.mean, performance.variance + BETA**2)
        for skill, performance in zip(skills, observed, strict=True)
    ]


def _positive_difference(mean: float, variance: float) -> Gaussian:
    """The message that the observation of a positive difference sends to a difference with this distribution."""
    deviation = math.sqrt(variance)
    z = mean / deviation
    ratio = _density(z) / _cdf(z) if z > -30 else -z  # the limit: below, both underflow
    shrink = min(max(ratio * (ratio + z), 1e-9), 1 - 1e-9)
    kept_mean, kept_variance = mean + deviation * ratio, variance * (1 - shrink)
    message_variance = 1 / (1 / kept_variance - 1 / variance)
    return Gaussian(message_variance * (kept_mean / kept_variance - mean / variance), message_variance)


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _cdf(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2
