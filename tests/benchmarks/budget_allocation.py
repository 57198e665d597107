"""Allocation of a budget of windows to queries, and an upper bound of what any allocation reaches."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def next_queries(uncertainties: Sequence[float], windows: int) -> list[int]:
    """Choose the queries that get one more window each: the most uncertain ones, the first of equal ones first.

    Args:
        uncertainties: One value per query; 0 for a query that needs no further window.
        windows: Number of windows to give.

    Returns:
        The indices of at most `windows` queries, the most uncertain first.
    """
    uncertain = [index for index, value in enumerate(uncertainties) if value > 0]
    return sorted(uncertain, key=lambda index: -uncertainties[index])[:windows]


def allocate(uncertainty: FloatArray, limits: IntArray, budget: int) -> IntArray:
    """Spend a budget in rounds; each round gives one window to the most uncertain tenth of the queries.

    Args:
        uncertainty: Uncertainty of each query after each number of windows, shape (queries, windows + 1).
        limits: The number of windows after which each query stops.
        budget: Total number of windows for all queries.

    Returns:
        The windows of each query.
    """
    spent = np.zeros_like(limits)
    rows = np.arange(len(limits))
    while (left := budget - int(spent.sum())) > 0:
        now = np.where(spent < limits, uncertainty[rows, spent], 0.0)
        chosen = next_queries(now.tolist(), min(left, max(1, len(limits) // 10)))
        if not chosen:
            break
        spent[chosen] += 1
    return spent


def upper_bound(ndcg: FloatArray, budget: float) -> FloatArray:
    """Values whose mean no allocation exceeds: the Lagrangian dual of choosing the best number of windows per row.

    Args:
        ndcg: After each number of windows, shape (rows, windows + 1).
        budget: Windows per row on average.

    Returns:
        One value per row, at the price of a window that gives the lowest mean, by bisection.
    """
    windows = np.arange(ndcg.shape[1])
    low, high = 0.0, 1.0
    for _ in range(50):
        price = (low + high) / 2
        too_many = np.argmax(ndcg - price * windows, axis=1).mean() > budget
        low, high = (price, high) if too_many else (low, price)
    values: FloatArray = (ndcg - high * windows).max(axis=1) + high * budget
    return values
