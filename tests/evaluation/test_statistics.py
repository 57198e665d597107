"""p-values and intervals against values worked by hand and against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.evaluation.statistics import bootstrap_interval, holm, paired_randomization

differences = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=1, max_size=40).map(np.array)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1.0, 1.0, 1.0], 2 / 8),  # +++ and --- of the 8 sign patterns
        ([3.0, 2.0, 1.0, -1.0], 6 / 16),  # sums of at least 5: 7, 5 twice, and their negatives
        ([0.5, -0.5], 1.0),
        ([0.0, 0.0], 1.0),
        ([0.0, 0.1, 0.2, 0.3], 2 / 8),  # the query without a difference is ignored
    ],
)
def test_exact_p_values_worked_by_hand(values: list[float], p: float) -> None:
    assert paired_randomization(np.array(values)) == p


def test_sampled_p_values_agree_with_scipy() -> None:
    import scipy.stats  # a second to import

    values = np.random.default_rng(3).normal(0.05, 0.2, 54)
    expected = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=50_000, rng=np.random.default_rng(1)
    ).pvalue
    assert 0.01 < expected < 0.5
    assert paired_randomization(values, resamples=50_000) == pytest.approx(expected, abs=0.01)


def test_a_sampled_p_value_is_never_zero() -> None:
    assert paired_randomization(np.full(100, 0.5), resamples=999) == 1 / 1000


@given(differences)
def test_p_ignores_direction_and_scale_and_is_reproducible(values: np.ndarray) -> None:
    p = paired_randomization(values, resamples=500)
    assert 0 < p <= 1
    assert p == paired_randomization(values, resamples=500)
    assert p == paired_randomization(-values, resamples=500)
    assert p == pytest.approx(paired_randomization(2 * values, resamples=500))


def test_the_false_positive_rate_is_the_significance_level() -> None:
    rng = np.random.default_rng(0)
    false_positives = sum(paired_randomization(rng.normal(0, 1, 30), resamples=300) < 0.05 for _ in range(400))
    assert false_positives <= 33  # 20 expected; the binomial gives 33 or fewer with probability 0.997


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    assert sorted(adjusted) == [value for _, value in sorted(zip(p_values, adjusted, strict=True))]


def test_the_interval_agrees_with_scipy() -> None:
    import scipy.stats  # a second to import

    values = np.random.default_rng(5).beta(0.5, 0.5, 54)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert bootstrap_interval(values, resamples=20_000) == pytest.approx(tuple(expected), abs=0.005)


def test_the_interval_of_equal_values_is_a_point() -> None:
    assert bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_the_interval_covers_the_mean_at_its_level() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        low, high = bootstrap_interval(rng.random(40), resamples=400, seed=seed)
        covered += low <= 0.5 <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_the_interval_does_not_depend_on_the_batch_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_interval(values, resamples=2000)
    monkeypatch.setattr("corpus_reranker.evaluation.statistics._MAX_DRAWS", 170)
    assert bootstrap_interval(values, resamples=2000) == whole
