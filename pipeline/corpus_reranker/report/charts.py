"""Geometry of small SVG charts, which the template draws. Coordinates are those of the viewBox."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus_reranker.array_types import FloatArray
from corpus_reranker.formatting import short_number

WIDTH, HEIGHT = 400.0, 190.0
"""About the width of a phone, so that labels are legible there: the style sheet enlarges the chart, not its labels."""

LEFT, RIGHT, TOP, BOTTOM = 66.0, 24.0, 18.0, 42.0
"""Margins for the labels of the axes."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A label and its coordinate on the axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Rect:
    """A bar or cell. `title` is shown on hover; `strength` from 0 to 1 is the opacity."""

    x: float
    y: float
    width: float
    height: float
    title: str
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: bars or cells, vertical marks, a line, ticks and axis labels.

    `line` holds the points of an SVG polyline.
    """

    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    rects: tuple[Rect, ...] = ()
    marks: tuple[Tick, ...] = ()
    line: str = ""
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def left(self) -> float:
        return LEFT

    @property
    def top(self) -> float:
        return TOP

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM


def histogram(values: Sequence[float] | npt.NDArray[np.generic], x_label: str, y_label: str, bins: int = 40) -> Chart:
    """A histogram with marks at the median, the 95th and the 99th percentile.

    The axis ends shortly after the 99.5th percentile; the last bar counts everything beyond.
    """
    numbers = np.asarray(values, dtype=np.float64)
    end = nice_ceiling(float(np.quantile(numbers, 0.995))) if len(numbers) else 1.0
    edges = np.linspace(0, end, bins + 1)
    counts, _ = np.histogram(np.minimum(numbers, end), edges)
    beyond = int((numbers > end).sum())
    titles = [f"{short_number(low)} to {short_number(high)}: {count:,}" for low, high, count in _spans(edges, counts)]
    if beyond:
        titles[-1] += f", {beyond:,} of them beyond {short_number(end)}"
    top = nice_ceiling(float(counts.max(initial=1)))
    marks = [(label, float(np.quantile(numbers, q))) for label, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))]
    return Chart(
        x_label,
        y_label,
        x_ticks=_x_ticks(0, end),
        y_ticks=_y_ticks(top),
        rects=_bars(edges, counts.astype(np.float64), titles, 0, end, top),
        marks=tuple(
            Tick(_x(value, 0, end), f"{label} {short_number(value)}") for label, value in marks if value <= end
        ),
    )


def distribution(values: FloatArray, low: float, high: float, x_label: str, y_label: str, bins: int = 20) -> Chart:
    """A histogram over the fixed range from `low` to `high`, which holds all values, with a mark at the mean."""
    edges = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(np.clip(values + 1e-9, low, high), edges)  # 0.9 is in the bar that begins at 0.9
    titles = [f"{short_number(start)} to {short_number(end)}: {count:,}" for start, end, count in _spans(edges, counts)]
    top = nice_ceiling(float(counts.max(initial=1)))
    mean = float(values.mean()) if len(values) else None
    return Chart(
        x_label,
        y_label,
        x_ticks=_ticks_between(low, high),
        y_ticks=_y_ticks(top),
        rects=_bars(edges, counts.astype(np.float64), titles, low, high, top),
        marks=() if mean is None else (Tick(_x(mean, low, high), f"mean {mean:.3f}"),),
    )


def series(
    edges: FloatArray,
    values: FloatArray,
    x_label: str,
    y_label: str,
    line: FloatArray | None = None,
    marks: Sequence[tuple[str, float]] = (),
) -> Chart:
    """Steps over time: `values[i]` holds from `edges[i]` to `edges[i + 1]`. Both axes start at 0.

    `line` has the length of `values` and is drawn over the steps. `marks` are labels and their times.
    """
    highest = max(float(each.max(initial=0.0)) for each in (values, values if line is None else line))
    end, top = float(edges[-1]), nice_ceiling(highest)
    titles = [
        f"{short_number(low)} to {short_number(high)}: {short_number(value)}"
        for low, high, value in _spans(edges, values)
    ]
    corners = [] if line is None else [(x, y) for low, high, y in _spans(edges, line) for x in (low, high)]
    return Chart(
        x_label,
        y_label,
        x_ticks=_x_ticks(0, end),
        y_ticks=_y_ticks(top),
        rects=_bars(edges, values, titles, 0, end, top),
        marks=tuple(Tick(_x(at, 0, end), label) for label, at in marks),
        line=" ".join(f"{_x(x, 0, end):.1f},{_y(y, top):.1f}" for x, y in corners),
    )


def curve(xs: FloatArray, ys: FloatArray, x_label: str, y_label: str) -> Chart:
    """A line through points with ascending `xs`; the axis of `ys` goes from 0 to 1."""
    low, high = float(xs[0]), float(xs[-1])
    return Chart(
        x_label,
        y_label,
        x_ticks=_ticks_between(low, high if high > low else low + 1),
        y_ticks=_y_ticks(1.0),
        line=_line(xs, ys, low, high if high > low else low + 1),
    )


def reliability_plot(points: Sequence[tuple[float, float, int]], x_label: str, y_label: str) -> Chart:
    """Squares at (predicted, observed), larger for more pairs, and the diagonal of a perfect calibration."""
    most = max(pairs for *_, pairs in points)
    rects = []
    for predicted, observed, pairs in points:
        side = 4 + 12 * math.sqrt(pairs / most)
        title = f"predicted {predicted:.3f}, observed {observed:.3f}, {pairs:,} pairs"
        x, y = _x(predicted, 0, 1) - side / 2, _y(observed, 1) - side / 2
        rects.append(Rect(x, y, side, side, title, 0.85))
    return Chart(
        x_label,
        y_label,
        x_ticks=_ticks_between(0, 1),
        y_ticks=_y_ticks(1.0),
        rects=tuple(rects),
        line=_line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0, 1),
    )


def signed_bars(values: FloatArray, x_label: str, y_label: str, min_extent: float = 0.1) -> Chart:
    """One bar per value, highest first, above or below zero. Neighbors are averaged if there are too many values.

    The axis extends to the largest absolute value, at least to `min_extent`.
    """
    groups = np.array_split(np.sort(values)[::-1], min(len(values), 120))
    extent = nice_ceiling(max(float(np.abs(values).max(initial=0.0)), min_extent))
    step = (WIDTH - LEFT - RIGHT) / len(groups)
    zero = _y(extent, 2 * extent)
    rects = []
    for number, group in enumerate(groups):
        mean = float(group.mean())
        tip = _y(mean + extent, 2 * extent)
        rects.append(Rect(LEFT + number * step, min(tip, zero), max(step - 0.5, 0.5), abs(tip - zero), f"{mean:+.3f}"))
    ticks = tuple(
        Tick(_y(value + extent, 2 * extent), f"{value:+.2g}" if value else "0")
        for value in (-extent, -extent / 2, 0, extent / 2, extent)
    )
    return Chart(x_label, y_label, x_ticks=(), y_ticks=ticks, rects=tuple(rects))


def heatmap(cells: FloatArray, spans: Sequence[str], x_label: str, y_label: str) -> Chart:
    """A square heatmap: `cells[x, y]` from 0 to 1, x to the right, y down. `spans` are the labels of both axes."""
    side = WIDTH - LEFT - RIGHT
    step = side / len(cells)
    strongest = max(float(cells.max(initial=0.0)), 1e-9)
    rects = tuple(
        Rect(
            LEFT + x * step,
            TOP + y * step,
            step - 0.5,
            step - 0.5,
            f"{spans[x]} to {spans[y]}: {cells[x, y]:.1%}",
            float(math.sqrt(cells[x, y] / strongest)),
        )
        for x in range(len(cells))
        for y in range(len(cells))
        if cells[x, y] > 0
    )
    every = max(1, math.ceil(len(spans) / 8))
    named = [(number, span) for number, span in enumerate(spans) if number % every == 0]
    return Chart(
        x_label,
        y_label,
        x_ticks=tuple(Tick(LEFT + (number + 0.5) * step, span.partition("-")[0]) for number, span in named),
        y_ticks=tuple(Tick(TOP + (number + 0.5) * step, span.partition("-")[0]) for number, span in named),
        rects=rects,
        width=LEFT + side + RIGHT,
        height=TOP + side + BOTTOM,
    )


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten at or above `value`; 1 for about zero and below."""
    if not value > 1e-300:  # a shorter axis would divide by denormal numbers
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8) if step * power >= value), 10 * power)


def _spans(edges: FloatArray, values: npt.NDArray[np.generic]) -> list[tuple[float, float, float]]:
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), values.tolist(), strict=True))


def _bars(
    edges: FloatArray, values: FloatArray, titles: Sequence[str], start: float, end: float, top: float
) -> tuple[Rect, ...]:
    rects = []
    for (low, high, value), title in zip(_spans(edges, values), titles, strict=True):
        left, width = _x(low, start, end), _x(high, start, end) - _x(low, start, end)
        rects.append(Rect(left, _y(value, top), max(width - 0.5, 0.5), _y(0, top) - _y(value, top), title))
    return tuple(rects)


def _x(value: float, start: float, end: float) -> float:
    return LEFT + (value - start) / (end - start) * (WIDTH - LEFT - RIGHT)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _steps(end: float, most: int) -> list[float]:
    """Multiples of a round number from 0 to `end`: at most `most` + 1 values."""
    step = 10.0 ** math.floor(math.log10(end / most))
    step = next(factor * step for factor in (1, 2, 2.5, 5, 10, 20) if end / (factor * step) <= most)
    return [number * step for number in range(int(end / step + 1e-9) + 1)]


def _line(xs: FloatArray, ys: FloatArray, low: float, high: float) -> str:
    """Points of a polyline, on a vertical axis from 0 to 1."""
    return " ".join(f"{_x(x, low, high):.1f},{_y(y, 1):.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))


def _ticks_between(low: float, high: float) -> tuple[Tick, ...]:
    return tuple(Tick(_x(value, low, high), short_number(value)) for value in np.linspace(low, high, 5).tolist())


def _x_ticks(start: float, end: float) -> tuple[Tick, ...]:
    return tuple(Tick(_x(value, start, end), short_number(value)) for value in _steps(end, 5))


def _y_ticks(top: float) -> tuple[Tick, ...]:
    return tuple(Tick(_y(value, top), short_number(value)) for value in _steps(top, 4))
