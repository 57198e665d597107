"""How uncertain the first ten candidates of a query are, by the beliefs of `active`.

`mean` and `deviation` of the functions have the shape (states of the query, candidates).
"""

import numpy as np
from budget_allocation import FloatArray
from scipy.special import ndtr

CUTOFF = 10


def expected_errors(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """The expected share of wrong candidates among the first ten of each state: 1 minus the stability of `active`."""
    low, high = (mean - 8 * deviation).min(axis=1), (mean + 8 * deviation).max(axis=1)
    for _ in range(30):
        threshold = (low + high) / 2
        too_low = ndtr((mean - threshold[:, None]) / deviation).sum(axis=1) > CUTOFF
        low, high = np.where(too_low, threshold, low), np.where(too_low, high, threshold)
    in_top = ndtr((mean - high[:, None]) / deviation)
    order = np.argsort(-mean, axis=1, kind="stable")[:, :CUTOFF]
    errors: FloatArray = 1 - np.take_along_axis(in_top, order, axis=1).mean(axis=1)
    return errors


def expected_regret(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """The expected gain in DCG@10, by state, from swapping each pair of candidates in the wrong order.

    A swap of two candidates counts by the difference of their discounts, times the expectation of max(0, lower -
    higher) over their beliefs. Only the first 30 candidates count.
    """
    order = np.argsort(-mean, axis=1, kind="stable")[:, : 3 * CUTOFF]
    mean, variance = np.take_along_axis(mean, order, axis=1), np.take_along_axis(deviation, order, axis=1) ** 2
    discount = 1 / np.log2(np.arange(2, mean.shape[1] + 2))
    discount[CUTOFF:] = 0
    spread = np.sqrt(variance[:, :, None] + variance[:, None, :])
    ahead = (mean[:, :, None] - mean[:, None, :]) / spread
    density = np.exp(-(ahead**2) / 2) / np.sqrt(2 * np.pi)
    swapped = spread * (density - ahead * ndtr(-ahead))
    regret: FloatArray = np.triu((discount[:, None] - discount) * swapped, 1).sum(axis=(1, 2))
    return regret
