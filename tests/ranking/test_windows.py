"""Sliding windows and final orders equal those of ReasonRank's code."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.windows import sliding_windows
from helpers.scripts import oracle, rerank

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "sliding_windows.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))


def _id(case: dict[str, Any]) -> str:
    return f"{case['num_candidates']}-{case['window_size']}-{case['stride']}"


def _strategy(case: dict[str, Any]) -> SlidingWindow:
    return SlidingWindow(case["window_size"], case["stride"], depth=case["rank_end"])


def test_golden_file_has_all_cases() -> None:
    assert len(CASES) == 96


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_windows_equal_the_authors(case: dict[str, Any]) -> None:
    num_ranked = min(case["num_candidates"], case["rank_end"])
    windows = sliding_windows(num_ranked, case["window_size"], case["stride"])
    assert windows == [tuple(window) for window in case["windows"]]
    assert _strategy(case).max_windows(case["num_candidates"]) == len(windows)


@pytest.mark.parametrize("case", CASES, ids=_id)
async def test_full_answers_give_the_order_of_the_authors_code(case: dict[str, Any]) -> None:
    hidden_rank = case["hidden_relevance_rank"]
    result = await rerank(case["num_candidates"], oracle(lambda index: -hidden_rank[index]), _strategy(case))
    assert list(result.order) == case["final_order_full_answers"]
    assert [(w.start, w.end) for w in result.windows] == [(s, e) for s, e in case["windows"] if e - s > 1]


@pytest.mark.parametrize("case", CASES, ids=_id)
async def test_partial_answers_give_the_order_of_the_authors_code(case: dict[str, Any]) -> None:
    """The golden partial answers name the best third of each window, at least one."""
    hidden_rank = case["hidden_relevance_rank"]
    partial = oracle(lambda index: -hidden_rank[index], num_ranked=lambda size: max(1, size // 3))
    result = await rerank(case["num_candidates"], partial, _strategy(case))
    assert list(result.order) == case["final_order_partial_answers"]
    assert result.status == "complete"


@given(num_candidates=st.integers(1, 400), window=st.integers(1, 50), data=st.data())
def test_windows_cover_every_position_and_end_at_the_top(num_candidates: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    windows = sliding_windows(num_candidates, window, stride)
    covered = {position for start, end in windows for position in range(start, end)}
    assert covered == set(range(num_candidates))
    assert windows[-1][0] == 0
    assert all(0 < end - start <= window for start, end in windows)
    assert windows == sorted(windows, reverse=True)


@pytest.mark.parametrize(("num_candidates", "window", "stride"), [(0, 20, 10), (5, 0, 0), (5, 4, 5), (5, 4, 0)])
def test_invalid_window_settings_are_refused(num_candidates: int, window: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1|need 1 <= stride"):
        sliding_windows(num_candidates, window, stride)


def test_full_windows_equal_those_of_lighton_rerank() -> None:
    golden = json.loads((GOLDEN.parent / "full_windows.json").read_text(encoding="utf-8"))
    for case in golden["cases"]:
        windows = sliding_windows(case["num_candidates"], 4, 2, full=True)
        assert windows == [tuple(window) for window in case["windows"]]
        assert SlidingWindow(4, 2, full_windows=True).max_windows(case["num_candidates"]) == len(windows)
