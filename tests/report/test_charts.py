"""Geometry and labels of the charts in the run report."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    distribution,
    heatmap,
    histogram,
    nice_ceiling,
    series,
    signed_bars,
)

positive = st.floats(0, 1e9)


def assert_inside(chart: Chart) -> None:
    for rect in chart.rects:
        assert rect.x >= LEFT - 0.01
        assert rect.x + rect.width <= chart.width - RIGHT + 0.51
        assert rect.y >= TOP - 0.01
        assert rect.y + rect.height <= chart.height - BOTTOM + 0.01
        assert rect.width > 0
        assert rect.height >= 0


@given(st.lists(positive, min_size=1, max_size=50))
def test_a_histogram_stays_in_its_frame_and_counts_every_value(values: list[float]) -> None:
    chart = histogram(values, "x", "y")
    assert_inside(chart)
    assert sum(int(rect.title.split(": ")[1].split(",")[0]) for rect in chart.rects) == len(values)


def test_the_last_bar_counts_values_beyond_the_axis() -> None:
    chart = histogram([10.0] * 999 + [1e6], "x", "y", bins=10)
    assert chart.rects[-1].title == "9 to 10: 1,000, 1 of them beyond 10"


def test_percentiles_are_marked_at_their_values() -> None:
    chart = histogram(np.arange(101.0), "x", "y")
    (p50, p95, p99) = chart.marks
    assert (p50.label, p95.label, p99.label) == ("p50 50", "p95 95", "p99 99")
    assert p50.at == pytest.approx(LEFT + (WIDTH - LEFT - RIGHT) / 2)


@given(st.lists(st.floats(-1, 1), max_size=50))
def test_a_distribution_stays_in_its_frame_and_counts_every_value(values: list[float]) -> None:
    chart = distribution(np.array(values), -1, 1, "x", "y")
    assert_inside(chart)
    assert sum(int(rect.title.split(": ")[1]) for rect in chart.rects) == len(values)


def test_a_value_at_an_edge_is_in_the_bar_that_begins_there() -> None:
    chart = distribution(np.array([0.6, 0.9, 1.0]), 0, 1, "x", "y")
    assert [rect.title for rect in chart.rects if rect.height] == ["0.6 to 0.65: 1", "0.9 to 0.95: 1", "0.95 to 1: 1"]


@given(st.lists(positive, min_size=1, max_size=60))
def test_a_series_stays_in_its_frame(values: list[float]) -> None:
    assert_inside(series(np.arange(len(values) + 1, dtype=np.float64), np.array(values), "x", "y"))


def test_the_height_of_a_bar_is_proportional_to_its_value() -> None:
    low, high = series(np.array([0.0, 1.0, 2.0]), np.array([1.0, 4.0]), "x", "y").rects
    assert high.height == pytest.approx(4 * low.height) == pytest.approx(HEIGHT - TOP - BOTTOM)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=300))
def test_signed_bars_stay_in_their_frame(values: list[float]) -> None:
    chart = signed_bars(np.array(values), "x", "y")
    assert_inside(chart)
    assert len(chart.rects) == min(len(values), 120)


def test_gains_are_above_zero_and_losses_below() -> None:
    gain, loss = signed_bars(np.array([-0.25, 0.5]), "x", "y").rects
    assert gain.y + gain.height == pytest.approx(loss.y)
    assert gain.height == pytest.approx(2 * loss.height)


def test_a_heatmap_draws_and_labels_nonzero_cells() -> None:
    chart = heatmap(np.array([[0.75, 0.25], [0.0, 1.0]]), ["1-5", "6-10"], "x", "y")
    assert_inside(chart)
    assert [rect.title for rect in chart.rects] == ["1-5 to 1-5: 75.0%", "1-5 to 6-10: 25.0%", "6-10 to 6-10: 100.0%"]
    assert chart.rects[2].strength == 1.0


@given(st.floats(1e-9, 1e15))
def test_a_nice_ceiling_is_at_most_twice_the_value(value: float) -> None:
    assert value <= nice_ceiling(value) <= 2 * value * (1 + 1e-9)


@given(st.floats(1e-6, 1e12))
def test_ticks_are_few_and_in_the_frame(end: float) -> None:
    chart = series(np.array([0.0, end]), np.array([end]), "x", "y")
    assert 2 <= len(chart.x_ticks) <= 10
    assert 2 <= len(chart.y_ticks) <= 6
    assert all(LEFT <= tick.at <= WIDTH - RIGHT + 0.01 for tick in chart.x_ticks)
