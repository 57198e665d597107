"""The budget in the report: gains of windows and rounds for 1,000 windows, and queries by their windows."""

import datetime
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.report.budget_section import (
    JudgedQueries,
    RoundLine,
    SpentLine,
    WindowLine,
    budget_section,
)
from corpus_reranker.report.page import render_report
from corpus_reranker.report.run_data import RunData
from corpus_reranker.report.settings import ReportConfig
from helpers.synthetic_output import output_row, write_data_files


def state(queries: int, rows: int, windows: int, stability: float | None, ndcg: float | None) -> dict[str, Any]:
    counts = {"queries": queries, "rows": rows, "windows": windows}
    return {"budget": {**counts, "stability": stability, "ndcg": ndcg}}


PASSES = [state(4, 0, 0, None, None), state(2, 4, 8, 0.5, 0.3)]


def test_gains_are_those_of_the_round_for_1000_windows() -> None:
    data = RunData(
        queries=4,
        attempts=12,
        windows_by_query=np.array([2, 4, 2, 4]),
        stability=np.array([0.9, 0.7, 0.8, np.nan]),
        window_stability=np.full(12, np.nan),
    )
    judged = JudgedQueries(np.array([0.1, 0.2, 0.9]), np.array([0.25, 0.5, 0.75]), np.array([2, 4, -1]))
    section = budget_section(data, PASSES, judged)
    assert section is not None
    first, second = section.rounds
    assert first == RoundLine(4, 8, 0.5, None, 0.3, None)
    assert (second.queries, second.windows, second.ndcg) == (2, 4, 0.5)
    assert second.stability_gain == pytest.approx((0.8 - 0.5) * 3 / 4 * 1000), "three queries have a stability"
    assert second.ndcg_gain == pytest.approx((0.5 - 0.3) * 3 / 4 * 1000)
    assert section.spent == [SpentLine(2, 2, (0.9 + 0.8) / 2, 1, 0.1, 0.25), SpentLine(4, 2, 0.7, 1, 0.2, 0.5)]
    assert section.windows == []


def test_gains_of_windows_compare_the_same_queries_before_and_after() -> None:
    unknown = np.nan
    data = RunData(
        queries=4,
        attempts=6,
        windows_by_query=np.array([3, 0, 1, 2, 2]),
        stability=np.array([0.9, unknown, 0.8, 0.6, 0.7]),
        window_stability=np.array([0.5, 0.7, 0.9, 0.8, 0.4, 0.6, unknown, 0.7]),
    )
    section = budget_section(data, PASSES[:1], None)
    assert section is not None
    first, second, third = section.windows
    assert (first.number, first.queries, first.before, first.gain) == (1, 3, None, None)
    assert first.after == pytest.approx((0.5 + 0.8 + 0.4) / 3)
    assert (second.number, second.queries) == (2, 2), "the last query has no stability before its second window"
    assert [second.before, second.after] == pytest.approx([0.45, 0.65])
    assert second.gain == pytest.approx(0.2 * 1000)
    assert replace(third, gain=None) == WindowLine(3, 1, 0.7, 0.9, None)
    assert third.gain == pytest.approx(200)


def test_without_qrels_and_without_a_budget() -> None:
    data = RunData(queries=4, attempts=12, windows_by_query=np.array([3] * 4), stability=np.full(4, 0.8))
    data.window_stability = np.full(12, np.nan)
    section = budget_section(data, [*PASSES[:1], state(2, 4, 8, 0.5, None)], None)
    assert section is not None
    assert (section.rounds[1].ndcg, section.rounds[1].ndcg_gain) == (None, None)
    assert (section.spent[0].judged, section.spent[0].ndcg_after) == (0, None)
    assert budget_section(data, [{"wall_seconds": 1.0}], None) is None
    assert budget_section(data, [], None) is None


def rows_with_windows(*numbers: int) -> list[dict[str, Any]]:
    """Queries whose first candidate comes last; their windows have stabilities from 0.5 in steps of 0.1."""
    start = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    window = {"start": 0, "end": 3, "status": "complete", "attempts": 1, "prompt_tokens": 9, "latency_seconds": 1.0}
    return [
        output_row(
            f"q{query}",
            [1, 2, 0],
            windows=[{**window, "output_tokens": 9, "stability": 0.5 + 0.1 * index} for index in range(number)],
            stability=0.4 + 0.1 * number,
            started_at=start,
            finished_at=start + datetime.timedelta(seconds=9),
        )
        for query, number in enumerate(numbers)
    ]


def test_the_page_has_the_section_only_with_a_budget(tmp_path: Path) -> None:
    rows = rows_with_windows(2, 2, 4, 4, 4)
    folder = write_data_files(tmp_path / "out", [rows[:2], rows[2:]])
    for passes, shown in (([{"wall_seconds": 1.0}], False), (PASSES, True)):
        (folder / "_manifest.json").write_text(json.dumps({"info": {"passes": passes}}))
        page = render_report((LocalFileSystem(), str(folder)), ReportConfig(), "name")
        assert ("<h2>Budget</h2>" in page) == shown
    assert cells(page, "Gain by window")[1] == ["2", "5", "0.5000", "0.6000", "+100.00"]
    assert cells(page, "Queries by windows") == [["2", "2", "0.6000"], ["4", "3", "0.8000"]]
    assert cells(page, "Rounds")[0] == ["4", "8", "0.5000", ""]


def test_the_page_compares_judged_queries_by_their_windows(tmp_path: Path) -> None:
    rows = rows_with_windows(2, 2, 4)
    folder = write_data_files(tmp_path / "out", [rows[:1], rows[1:]])
    (folder / "_manifest.json").write_text(json.dumps({"info": {"passes": PASSES}}))
    qrels = {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d1": 1}, "absent": {"d1": 1}}
    page = render_report((LocalFileSystem(), str(folder)), ReportConfig(), "name", qrels)
    third, second = 1 / 2, 1 / math.log2(3)  # of a relevant document at rank 3 and 2
    assert cells(page, "Queries by windows") == [
        ["2", "2", "0.6000", "2", f"{(1 + second) / 2:.4f}", f"{(third + 1) / 2:.4f}"],
        ["4", "1", "0.8000", "1", f"{second:.4f}", "1.0000"],
    ]


def cells(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    table = page.partition(f"<h3>{heading}</h3>")[2].partition("</tbody>")[0].partition("<tbody>")[2]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("</tr>")[:-1]]
