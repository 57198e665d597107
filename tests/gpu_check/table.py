"""The result as Markdown: what it ran on, one table, and the sums behind the floors."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpu_check.floor import CARDS, Card, window_floor
from gpu_check.model_shape import ModelShape
from gpu_check.steps import Step, StepResult

COLUMNS = (
    "step",
    "windows/s",
    "of the floor",
    "output tokens/s",
    "running / capacity / in flight",
    "KV cache used",
    "preemptions per 100 windows",
    "engine start",
    "result",
)


def markdown(
    title: str,
    machine: Sequence[str],
    results: Sequence[StepResult],
    shape: ModelShape,
    card: Card | None = None,
    show_floor: bool = True,
) -> str:
    """The whole report.

    Args:
        title: First line.
        machine: Lines about the GPU and the versions.
        results: One for each step, in order.
        shape: The model that the engine steps ran.
        card: Peak rates of the GPU; None: those of CARDS, by the name that the engine reports.
        show_floor: False if the figures are not those of a GPU.
    """
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    floors = []
    for result in results:
        floor, fraction = _floor(result, shape, card) if show_floor else (None, "")
        rows.append(_row(result, fraction))
        if floor:
            floors.append(f"- {result.step.name}: {floor}")
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    lines = [f"# {title}", "", *(f"- {line}" for line in machine), "", table]
    return "\n".join([*lines, *(["", "Floors, in seconds of the GPU:", ""] if floors else []), *floors, ""])


def _row(result: StepResult, fraction: str) -> tuple[str, ...]:
    figures = result.figures
    if figures is None:
        return (result.step.name, *[""] * (len(COLUMNS) - 2), f"**failed**: {_cell(result.reason or '')}")
    if "measurement" not in figures:
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(figures["queries_by_status"].items()))
        text = f"{statuses} in {figures['seconds']:.0f} s ({figures['model']})"
        return (result.step.name, *[""] * (len(COLUMNS) - 2), text)
    measured = figures["measurement"]
    windows, seconds = measured["windows"], measured["seconds"]
    return (
        result.step.name,
        f"{windows / seconds:.2f}",
        fraction,
        f"{measured['output_tokens'] / seconds:,.0f}",
        f"{measured['running']:.0f} / {figures['capacity']} / {figures['in_flight']}",
        f"{measured['kv_cache_usage']:.0%}",
        f"{100 * measured['preemptions'] / windows:.1f}",
        f"{figures['start_seconds']:.0f} s",
        f"{windows} windows in {seconds:.0f} s",
    )


def _floor(result: StepResult, shape: ModelShape, card: Card | None) -> tuple[str | None, str]:
    """The sum of a step's floor, and the measured rate as a fraction of it."""
    if result.figures is None or "measurement" not in result.figures:
        return None, ""
    name = result.figures["device_name"]
    card = card or CARDS.get(name)
    if card is None:
        return f"no data sheet for {name!r}; give its peak rates with --terabytes-per-second and --bf16-teraflops", "?"
    return _sum_and_fraction(result.step, result.figures, shape, card)


def _sum_and_fraction(step: Step, figures: Mapping[str, Any], shape: ModelShape, card: Card) -> tuple[str, str]:
    try:
        floor = window_floor(shape, card, figures["capacity"], step.fp8_weights)
    except ValueError as error:
        return str(error), "?"
    measured = figures["measurement"]
    return floor.formula(), f"{measured['windows'] / measured['seconds'] / floor.windows_per_second:.0%}"


def _cell(text: str) -> str:
    """Text that cannot end its table cell."""
    return " ".join(text.split()).replace("|", "\\|")
