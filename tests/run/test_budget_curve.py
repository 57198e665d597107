"""The curve of a budget: the rounds over a sample are those of a run, and a sample that gives no curve is reported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.report.run_data import RunData
from corpus_reranker.run.budget_curve import BudgetCurve, budget_curve, plan_rounds, sampled_queries
from helpers.runs import config

STABILITY = 0.3, 0.5, 0.6, 0.65


def measured(*windows: int, attempts: int = 1, stability: tuple[float, ...] = STABILITY) -> RunData:
    """A run whose queries have these numbers of windows. All have the same stability after each number of windows."""
    total = sum(windows)
    return RunData(
        windows_by_query=np.array(windows),
        window_attempts=np.full(total, attempts, np.int32),
        window_answered=np.ones(total, np.bool_),
        window_stability=np.array([stability[number] for count in windows for number in range(count)]),
    )


def sample_folder(folder: Path, strategy: dict[str, Any] | None) -> tuple[LocalFileSystem, str]:
    (folder / "_run").mkdir(parents=True)
    if strategy is not None:
        (folder / "_run/config.yaml").write_text(yaml.safe_dump({"strategy": strategy}))
    return LocalFileSystem(), str(folder)


ACTIVE = {"name": "active", "window": 4, "depth": 12, "cutoff": 3}


def job(folder: Path, budget: str, max_calls: int = 4) -> JobConfig:
    strategy = "{" + ", ".join(f"{name}: {value}" for name, value in {**ACTIVE, "max_calls": max_calls}.items()) + "}"
    return config(folder, f"--strategy={strategy}", f"--budget={budget}")


def curve(folder: Path, data: RunData, budget: str, per_query: float, max_calls: int = 4) -> BudgetCurve:
    """The curve of a run with `max_calls`, from a sample with at most 4 windows for each query."""
    settings = job(folder, budget, max_calls)
    assert settings.budget is not None
    output = sample_folder(folder / "sample", {**ACTIVE, "max_calls": 4})
    return budget_curve(settings, settings.budget, data, output, per_query)


def test_the_points_of_a_uniform_budget_are_the_means_of_the_sample(tmp_path: Path) -> None:
    found = curve(tmp_path, measured(4, 4, 4, 4), "{windows: 400}", 2.5)
    assert [point.windows_per_query for point in found.points] == [1, 2, 2.5, 3, 4]
    assert [point.stability for point in found.points] == pytest.approx([0.3, 0.5, 0.55, 0.6, 0.65])
    assert [point.is_budget for point in found.points] == [False, False, True, False, False]
    gains = [point.stability_gain for point in found.points]
    assert gains[0] is None
    assert gains[1:] == pytest.approx([200, 100, 100, 50]), "per 1,000 windows"
    assert (found.queries, found.note) == (4, None)


def test_retries_are_paid_by_the_budget(tmp_path: Path) -> None:
    found = curve(tmp_path, measured(4, 4, attempts=2), "{windows: 400}", 4.0)
    budget = next(point for point in found.points if point.is_budget)
    assert (budget.windows_per_query, budget.stability) == (8, 0.65), "a round is planned without its retries"


def test_a_sample_that_is_too_short_for_the_budget_says_so(tmp_path: Path) -> None:
    found = curve(tmp_path, measured(4, 4, 2), "{windows: 400}", 6.0, max_calls=9)
    assert not any(point.is_budget for point in found.points)
    assert found.note is not None
    assert "pays for 6.0 windows per query, and the measured run has at most 4" in found.note


def test_a_budget_that_no_query_can_use_ends_at_the_last_point(tmp_path: Path) -> None:
    found = curve(tmp_path, measured(3, 2, 2), "{windows: 400}", 6.0, max_calls=9)
    assert [point.is_budget for point in found.points] == [False, False, True]
    assert found.points[-1].windows_per_query == pytest.approx(7 / 3)
    assert found.note is not None
    assert found.note.startswith("the budget is not spent")


@pytest.mark.parametrize(
    ("data", "strategy", "reason"),
    [
        (measured(4, 4), None, "no _run/config.yaml"),
        (measured(4, 4), {"name": "sliding_window"}, "another strategy"),
        (measured(4, 4), {"name": "no_such_strategy"}, "another strategy"),
        (measured(4, 4), {**ACTIVE, "depth": 10}, "another strategy"),
        (measured(1, 1, stability=(np.nan,)), ACTIVE, "has a stability"),
        (measured(), ACTIVE, "has a stability"),
    ],
)
def test_a_sample_that_cannot_answer_gives_no_points(
    tmp_path: Path, data: RunData, strategy: dict[str, Any] | None, reason: str
) -> None:
    settings = job(tmp_path, "{windows: 400}")
    assert settings.budget is not None
    found = budget_curve(settings, settings.budget, data, sample_folder(tmp_path / "sample", strategy), 2.0)
    assert found.points == ()
    assert found.note is not None
    assert reason in found.note


@pytest.mark.parametrize(
    ("sampled", "ended"), [({"shuffles": 4}, [False, True, False]), ({"depth": 8}, []), ({"cutoff": 3}, [])]
)
def test_a_sample_may_have_other_shuffles_only(tmp_path: Path, sampled: dict[str, int], ended: list[bool]) -> None:
    strategy = "{name: shuffle_consensus, window: 4, stride: 2, depth: 4}"
    settings = config(tmp_path, f"--strategy={strategy}", "--budget={windows: 40}")
    assert settings.budget is not None
    output = sample_folder(tmp_path / "sample", yaml.safe_load(strategy) | sampled)
    found = budget_curve(settings, settings.budget, measured(3, 3), output, 2.0)
    assert [point.is_budget for point in found.points] == ended


def test_a_strategy_that_cannot_continue_gives_no_points(tmp_path: Path) -> None:
    for strategy in ("{name: sliding_window}", "{name: shuffle_consensus}"):
        settings = config(tmp_path, f"--strategy={strategy}", "--budget={windows: 40}")
        assert settings.budget is not None
        found = budget_curve(settings, settings.budget, measured(3, 3), (LocalFileSystem(), str(tmp_path)), 2.0)
        assert found.points == ()
        assert found.note is not None
        assert "cannot continue" in found.note


def test_a_sample_with_a_budget_gives_no_points(tmp_path: Path) -> None:
    data = measured(4, 4)
    data.metadata = {"reranker.budget": "{}"}
    assert "has a budget" in (curve(tmp_path, data, "{windows: 400}", 2.0).note or "")


@st.composite
def runs(draw: st.DrawFn) -> RunData:
    """Queries with some windows each. Some windows have no answer; before its first one, a query has no stability."""
    windows = draw(st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any))
    total = sum(windows)
    answered = np.array(draw(st.lists(st.sampled_from([True] * 5 + [False]), min_size=total, max_size=total)))
    stability = np.array(draw(st.lists(st.floats(0, 1), min_size=total, max_size=total)))
    for start, end in zip(np.cumsum(windows) - windows, np.cumsum(windows), strict=True):
        stability[start:end][np.cumsum(answered[start:end]) == 0] = np.nan
    attempts = draw(st.lists(st.integers(1, 2), min_size=total, max_size=total))
    return RunData(
        windows_by_query=np.array(windows),
        window_attempts=np.array(attempts, np.int32),
        window_answered=answered,
        window_stability=stability,
    )


budgets = st.one_of(
    st.builds(BudgetConfig, windows=st.just(1)),
    st.builds(
        BudgetConfig,
        windows=st.just(1),
        allocation=st.just("uncertainty"),
        first_windows=st.integers(1, 4),
        target_stability=st.sampled_from([None, 0.5]),
    ),
)


@settings(max_examples=200)
@given(data=runs(), budget=budgets, windows=st.integers(0, 80))
def test_the_rounds_over_a_sample_keep_the_rules_of_a_budget(data: RunData, budget: BudgetConfig, windows: int) -> None:
    sample = sampled_queries(data, 6)
    limits = plan_rounds(budget, sample, windows)
    assert ((limits >= 1) & (limits <= 6)).all()
    queries = np.split(np.arange(len(data.window_attempts)), np.cumsum(data.windows_by_query)[:-1])
    had = [each[:limit] for each, limit in zip(queries, limits, strict=True)]
    assert sample.spent(limits) == sum(int(data.window_attempts[each].sum()) for each in had)
    known = [data.window_stability[each[-1]] if len(each) else np.nan for each in had]
    assert np.array_equal(sample.stabilities(limits), known, equal_nan=True)
    for each, limit in zip(had, limits, strict=True):
        if budget.first_windows is not None and limit > budget.first_windows:
            answered = data.window_answered[each[: budget.first_windows]]
            assert answered.all(), "a query with a window without an answer does not continue"
    if sample.spent(limits) < windows and budget.target_stability is None:
        for each, limit in zip(had, limits, strict=True):
            is_open = len(each) == limit and data.window_answered[each].all()
            assert limit == 6 or not is_open, "a query that can use more windows gets them"
