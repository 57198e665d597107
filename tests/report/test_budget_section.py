"""The budget in the report: gains of rounds for 1,000 windows, and queries by their windows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.report.budget_section import RoundLine, SpentLine, budget_section
from corpus_reranker.report.page import render_report
from corpus_reranker.report.run_data import RunData
from corpus_reranker.report.settings import ReportConfig
from helpers.synthetic_output import simulated_rows, write_data_files


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
    )
    section = budget_section(data, PASSES, ndcg=0.4, judged_queries=2)
    assert section is not None
    first, second = section.rounds
    assert first == RoundLine(4, 8, 0.5, None, 0.3, None)
    assert (second.queries, second.windows, second.ndcg) == (2, 4, 0.4)
    assert second.stability_gain == pytest.approx((0.8 - 0.5) * 4 / 4 * 1000)
    assert second.ndcg_gain == pytest.approx((0.4 - 0.3) * 2 / 4 * 1000)
    assert section.spent == [SpentLine(2, 2, (0.9 + 0.8) / 2), SpentLine(4, 2, 0.7)]


def test_without_qrels_and_without_a_budget() -> None:
    data = RunData(queries=4, attempts=12, windows_by_query=np.array([3] * 4), stability=np.full(4, 0.8))
    section = budget_section(data, [*PASSES[:1], state(2, 4, 8, 0.5, None)], None, 0)
    assert section is not None
    assert (section.rounds[1].ndcg, section.rounds[1].ndcg_gain) == (None, None)
    assert budget_section(data, [{"wall_seconds": 1.0}], None, 0) is None
    assert budget_section(data, [], None, 0) is None


def test_the_page_has_the_section_only_with_a_budget(tmp_path: Path) -> None:
    folder = write_data_files(tmp_path / "out", [simulated_rows(4)])
    for passes, shown in (([{"wall_seconds": 1.0}], False), (PASSES, True)):
        (folder / "_manifest.json").write_text(json.dumps({"info": {"passes": passes}}))
        page = render_report((LocalFileSystem(), str(folder)), ReportConfig(), "name")
        assert ("<h2>Budget</h2>" in page) == shown
    assert '<td class="number">0.5000</td>' in page
