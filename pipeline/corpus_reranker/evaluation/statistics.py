"""Significance: bootstrap interval, paired randomization test, Holm's correction.

The randomization test assumes nothing about the distribution of the differences. Smucker, Allan and Carterette
recommend it for IR measures (CIKM 2007, "A comparison of statistical significance tests").
"""

from collections.abc import Iterator, Sequence

import numpy as np

from corpus_reranker.array_types import FloatArray

_MAX_DRAWS = 4_000_000
"""Random numbers held in memory at a time: 32 MB of indices."""


def bootstrap_interval(
    values: FloatArray, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` over resampled queries; (nan, nan) if there are no values."""
    if len(values) == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(0, len(values), (rows, len(values)))].mean(axis=1) for rows in _rows(resamples, values)]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired_randomization(differences: FloatArray, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of the mean of per-query `differences` under random sign flips.

    Exact if there are at most `resamples` sign patterns, else (hits + 1) / (resamples + 1), which is never 0.
    Queries without a difference are ignored; the result is 1.0 if no query differs.
    """
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    # Sums of the same terms in another order can differ in the last bits: such a tie counts as extreme.
    observed = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    if len(moved) < 63 and 2 ** len(moved) <= resamples:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ moved) >= observed))
    rng = np.random.default_rng(seed)
    hits = 0
    for rows in _rows(resamples, moved):
        signs = 2 * rng.integers(0, 2, (rows, len(moved)), dtype=np.int8) - 1
        hits += int(np.count_nonzero(np.abs(signs @ moved) >= observed))
    return (hits + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given, that control the family-wise error rate (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def _rows(resamples: int, values: FloatArray) -> Iterator[int]:
    rows = max(1, _MAX_DRAWS // len(values))
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)
