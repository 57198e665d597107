"""Gaussian skills from the order of a window: the TrueSkill update for a game of single players without draws.

Herbrich, Minka and Graepel, "TrueSkill: A Bayesian skill rating system" (NIPS 2006): a player's performance is the
skill plus noise of deviation BETA, and the order says that each performance is above the next one's. The chain of
those differences is solved by expectation propagation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BETA = 0.5
"""In units of a skill's deviation before any window: TrueSkill's 25/6 beside 25/3."""

_SWEEPS = 20
_CONVERGED = 1e-3


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A normal belief."""

    mean: float
    variance: float

    def __mul__(self, other: "Gaussian") -> "Gaussian":
        """Both beliefs together."""
        if math.isinf(other.variance):
            return self
        if math.isinf(self.variance):
            return other
        variance = 1 / (1 / self.variance + 1 / other.variance)
        return Gaussian(variance * (self.mean / self.variance + other.mean / other.variance), variance)

    def above(self, threshold: float) -> float:
        """Probability of a value above it."""
        return _below((self.mean - threshold) / math.sqrt(self.variance))


_NOTHING = Gaussian(0.0, math.inf)


def skills_after(skills: Sequence[Gaussian]) -> list[Gaussian]:
    """Skills of players given best first, after a game that ended in this order."""
    performances = [Gaussian(skill.mean, skill.variance + BETA**2) for skill in skills]
    from_below = [_NOTHING] * len(skills)  # what beating the next one says of each performance
    from_above = [_NOTHING] * len(skills)  # what losing to the one before says of it
    for _ in range(_SWEEPS):
        moved = 0.0
        for better in [*range(len(skills) - 1), *reversed(range(len(skills) - 2))]:
            worse = better + 1
            winner = performances[better] * from_above[better]
            loser = performances[worse] * from_below[worse]
            ahead = _positive_difference(winner.mean - loser.mean, winner.variance + loser.variance)
            moved = max(moved, abs(ahead.mean - (from_below[better].mean - loser.mean)))
            from_below[better] = Gaussian(loser.mean + ahead.mean, loser.variance + ahead.variance)
            from_above[worse] = Gaussian(winner.mean - ahead.mean, winner.variance + ahead.variance)
        if moved < _CONVERGED:
            break
    seen = [above * below for above, below in zip(from_above, from_below, strict=True)]
    return [
        skill * Gaussian(performance.mean, performance.variance + BETA**2)
        for skill, performance in zip(skills, seen, strict=True)
    ]


def _positive_difference(mean: float, variance: float) -> Gaussian:
    """The message that a difference with this belief is above 0."""
    deviation = math.sqrt(variance)
    z = mean / deviation
    ratio = _density(z) / _below(z) if z > -30 else -z  # its limit, where both underflow
    shrink = min(max(ratio * (ratio + z), 1e-9), 1 - 1e-9)
    kept_mean, kept_variance = mean + deviation * ratio, variance * (1 - shrink)
    message_variance = 1 / (1 / kept_variance - 1 / variance)
    return Gaussian(message_variance * (kept_mean / kept_variance - mean / variance), message_variance)


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _below(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2
