"""Kendall's tau, RBO and overlap: invariants, and agreement with definitions that count every pair and every depth."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.evaluation.rank_agreement import PairedRanks

rankings = st.lists(st.integers(0, 30), unique=True, max_size=25).map(lambda ids: [f"d{each}" for each in ids])
persistences = st.floats(0.05, 0.99)


@st.composite
def orders(draw: st.DrawFn, min_size: int = 2) -> tuple[list[str], list[str]]:
    """Two orders of the same documents."""
    documents = [f"d{number}" for number in range(draw(st.integers(min_size, 25)))]
    return documents, draw(st.permutations(documents))


def naive_tau(a: list[str], b: list[str]) -> float:
    pairs = list(combinations(a, 2))
    return sum(1 if b.index(first) < b.index(second) else -1 for first, second in pairs) / len(pairs)


def naive_rbo(a: list[str], b: list[str], p: float) -> float:
    """Equation 32 of the paper, depth by depth."""
    short, long = sorted((a, b), key=len)
    s, n = len(short), len(long)

    def common(depth: int) -> int:
        return len(set(short[:depth]) & set(long[:depth]))

    total = sum(common(d) / d * p**d for d in range(1, n + 1))
    total += sum(common(s) * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * total + ((common(n) - common(s)) / n + common(s) / s) * p**n


def scipy_tau(order: list[int]) -> float:
    from scipy.stats import kendalltau  # a second to import

    return float(kendalltau(range(len(order)), order).statistic)


@given(orders())
def test_tau_counts_pairs_as_scipy_does(lists: tuple[list[str], list[str]]) -> None:
    a, b = lists
    tau = PairedRanks.of(a, b).kendall_tau()
    assert tau == pytest.approx(naive_tau(a, b))
    assert tau == pytest.approx(scipy_tau([b.index(each) for each in a]))
    assert tau == PairedRanks.of(b, a).kendall_tau()


@given(st.permutations(range(900)))
def test_tau_of_long_lists_equals_that_of_scipy(order: list[int]) -> None:
    a, b = [str(number) for number in range(900)], [str(number) for number in order]
    expected = scipy_tau([order.index(number) for number in range(900)])
    assert PairedRanks.of(a, b).kendall_tau() == pytest.approx(expected)


@given(orders())
def test_tau_is_1_for_the_same_order_and_minus_1_for_the_reverse(lists: tuple[list[str], list[str]]) -> None:
    _, order = lists
    assert PairedRanks.of(order, order).kendall_tau() == 1.0
    assert PairedRanks.of(order, order[::-1]).kendall_tau() == -1.0


@given(rankings, rankings, persistences)
def test_rbo_is_symmetric_and_from_0_to_1(a: list[str], b: list[str], p: float) -> None:
    rbo = PairedRanks.of(a, b).rbo(p)
    assert 0 <= rbo <= 1
    assert rbo == pytest.approx(PairedRanks.of(b, a).rbo(p))
    assert PairedRanks.of(a, a).rbo(p) == pytest.approx(1)


@given(rankings.filter(len), rankings.filter(len), persistences)
def test_rbo_equals_its_definition(a: list[str], b: list[str], p: float) -> None:
    assert PairedRanks.of(a, b).rbo(p) == pytest.approx(naive_rbo(a, b, p))


def test_rbo_weighs_the_top_more() -> None:
    documents = list("abcdefgh")
    top, tail = list("bacdefgh"), list("abcdefhg")
    assert PairedRanks.of(documents, top).rbo(0.9) < PairedRanks.of(documents, tail).rbo(0.9) < 1


@given(rankings, rankings, st.integers(1, 30))
def test_overlap_is_symmetric_and_the_share_of_the_longer_top(a: list[str], b: list[str], cutoff: int) -> None:
    overlap = PairedRanks.of(a, b).overlap(cutoff)
    longer = max(len(a[:cutoff]), len(b[:cutoff]))
    assert overlap == (len(set(a[:cutoff]) & set(b[:cutoff])) / longer if longer else 1.0)
    assert overlap == PairedRanks.of(b, a).overlap(cutoff)


@pytest.mark.parametrize(
    ("a", "b", "tau", "rbo", "overlap"),
    [([], [], 1, 1, 1), (["x"], [], 1, 0, 0), (["x"], ["x"], 1, 1, 1), (["x"], ["y"], 1, 0, 0)],
)
def test_measures_of_lists_with_no_pair_in_common(
    a: list[str], b: list[str], tau: float, rbo: float, overlap: float
) -> None:
    paired = PairedRanks.of(a, b)
    assert (paired.kendall_tau(), paired.rbo(0.9), paired.overlap(10)) == pytest.approx((tau, rbo, overlap))


def test_the_same_documents_and_the_same_first() -> None:
    assert PairedRanks.of(["x", "y"], ["y", "x"]).same_documents
    assert not PairedRanks.of(["x", "y"], ["y", "x"]).same_first
    assert not PairedRanks.of(["x"], ["x", "y"]).same_documents
    assert PairedRanks.of(["x"], ["x", "y"]).same_first
