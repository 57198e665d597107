"""The rounds of a budget: never more windows than it has, each round the lowest limits, and the same after a kill."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.schemas import BUDGET, MAX_WINDOWS, NESTED_INPUT, QUERY_ID, RESULT, output_schema
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.spend import Spend
from corpus_reranker.run.budget import BudgetRound, check_budget, next_limits, plan_round, raised_limits, uniform_limits
from corpus_reranker.run.preflight import preflight
from helpers.runs import config

MOST_WINDOWS = 9

limits_before = st.lists(st.integers(1, MOST_WINDOWS - 1), max_size=20).map(lambda each: np.array(each, np.int64))
budgets = st.one_of(
    st.builds(BudgetConfig, windows=st.integers(20, 200)),
    st.builds(
        BudgetConfig,
        windows=st.integers(60, 200),
        allocation=st.just("uncertainty"),
        first_windows=st.integers(1, 3),
        target_stability=st.sampled_from([None, 0.8]),
    ),
)


@given(before=limits_before, windows=st.integers(0, 100))
def test_uniform_limits_differ_by_at_most_one_and_spend_what_is_left(before: Any, windows: int) -> None:
    limits = uniform_limits(before, windows, MOST_WINDOWS)
    raised = limits > before
    assert (limits >= before).all()
    assert (limits - before).sum() == min(windows, (MOST_WINDOWS - before).sum())
    if raised.any():
        assert limits[raised].max() - limits.min() <= 1
    more = uniform_limits(before, windows + 1, MOST_WINDOWS)
    assert (more >= limits).all()


@given(before=limits_before, windows=st.integers(0, 100), step=st.integers(1, 4))
def test_a_round_raises_only_the_lowest_limits(before: Any, windows: int, step: int) -> None:
    limits = raised_limits(before, windows, step, MOST_WINDOWS)
    raised = limits > before
    assert (limits >= before).all()
    assert (limits - before).sum() <= windows
    assert (limits - before).max(initial=0) <= step
    if raised.any():
        assert set(before[raised] // step) == {before.min() // step}
    if windows and len(before):
        assert raised.any()


@dataclass(frozen=True)
class SimulatedRun:
    """Queries that stop by themselves after some windows, and whose stability depends on their windows."""

    budget: BudgetConfig
    needed: dict[str, int]
    seed: int

    def spend(self, kill: random.Random | None) -> dict[str, int]:
        """The windows of each query at the end. `kill` ends rounds early."""
        rows: dict[str, tuple[int, int]] = {}
        for _ in range(1_000):
            left = int(self.budget.amount) - sum(windows for windows, _ in rows.values())
            chosen = next_limits(self.budget, MOST_WINDOWS, self._open(rows), left).to_pylist()
            if not chosen:
                return {query_id: windows for query_id, (windows, _) in sorted(rows.items())}
            if kill is not None:
                chosen = kill.sample(chosen, kill.randint(1, len(chosen)))
            for row in chosen:
                limit = row[MAX_WINDOWS]
                rows[row[QUERY_ID]] = (min(limit, self.needed[row[QUERY_ID]]), limit)
        raise AssertionError("the rounds do not end")

    def _open(self, rows: dict[str, tuple[int, int]]) -> pa.Table:
        target = self.budget.target_stability or 2.0
        queries = []
        for query_id in self.needed:
            windows, limit = rows.get(query_id, (0, 0))
            stability = random.Random(f"{self.seed}/{query_id}/{windows}").random() if limit else None
            if windows == limit < MOST_WINDOWS and (stability or 0) < target:
                queries.append({QUERY_ID: query_id, MAX_WINDOWS: limit, "stability": stability})
        fields = [(QUERY_ID, pa.string()), (MAX_WINDOWS, pa.int32()), ("stability", pa.float64())]
        return pa.Table.from_pylist(queries, pa.schema(fields))


@settings(max_examples=200)
@given(budget=budgets, needed=st.lists(st.integers(1, 12), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_the_budget_is_spent_and_kills_do_not_change_the_allocation(
    budget: BudgetConfig, needed: list[int], seed: int
) -> None:
    run = SimulatedRun(budget, {f"q{number:02}": windows for number, windows in enumerate(needed)}, seed)
    rows = run.spend(None)
    spent = sum(rows.values())
    assert spent <= budget.amount
    assert len(rows) == len(needed)
    if budget.target_stability is None:
        assert spent == min(budget.amount, sum(min(windows, MOST_WINDOWS) for windows in needed))
    assert run.spend(random.Random(seed)) == rows


@given(order=st.permutations(range(12)), windows=st.integers(36, 60))
def test_the_least_stable_queries_get_the_second_round(order: list[int], windows: int) -> None:
    budget = BudgetConfig(windows=windows, allocation="uncertainty", first_windows=3)
    ids = [f"q{number:02}" for number in order]
    stability = [number // 2 / 10 for number in order]
    columns = [pa.array(ids), pa.array([3] * 12, pa.int32()), pa.array(stability, pa.float64())]
    queries = pa.table(columns, names=[QUERY_ID, MAX_WINDOWS, "stability"])
    chosen = next_limits(budget, MOST_WINDOWS, queries, windows - 36)
    rounds = [3] * ((windows - 36) // 3) or [each for each in [windows - 36] if each]
    assert chosen[QUERY_ID].to_pylist() == [f"q{number:02}" for number in range(len(rounds))]
    assert chosen[MAX_WINDOWS].to_pylist() == [3 + each for each in rounds]


def test_a_query_without_a_row_gets_windows_even_if_retries_have_spent_the_budget() -> None:
    none = np.zeros(2, np.int64)
    assert uniform_limits(none, -3, MOST_WINDOWS).tolist() == [1, 1]
    assert raised_limits(none, -3, 2, MOST_WINDOWS).tolist() == [2, 2]


def row(query_id: str, max_windows: int, attempts: list[int], **changes: Any) -> dict[str, Any]:
    window = {"start": 0, "end": 4, "status": "complete", "prompt_tokens": 40, "output_tokens": 2}
    windows = [window | {"attempts": each} for each in attempts]
    columns = {QUERY_ID: query_id, "status": "complete", "ranking": [], "windows": windows, "stability": 0.5}
    return dict.fromkeys(RESULT.names) | columns | {MAX_WINDOWS: max_windows} | changes


def test_rows_with_a_higher_limit_replace_others_and_closed_queries_get_nothing(tmp_path: Path) -> None:
    job = config(tmp_path)
    sink = ParquetSink(job.output, job.storage)
    record = sink.begin({}, 7, config_yaml="")
    schema = output_schema(pa.schema([]), {BUDGET: "{}"})
    late = [row("twice", 3, [1, 1, 1], status="degraded")]
    early = [
        row("twice", 2, [1, 1]),
        row("open", 2, [1, 2]),
        row("stopped", 2, [1]),
        row("degraded", 2, [1, 1], status="degraded"),
        row("failed", 2, [], status="failed", stability=None),
        row("stable", 2, [1, 1], stability=0.9),
    ]
    for rows in (late, early):  # the row of the earlier round is in the newer file
        sink.write_file([pa.Table.from_pylist(rows, schema)], schema)
    ids = pa.chunked_array([[each[QUERY_ID] for each in early] + ["new"]])
    state = sink.prepare(ids)
    assert (state.done, state.by_status["degraded"]) == (6, 2)

    def plan(budget: str) -> BudgetRound:
        settings = config(tmp_path, f"--strategy={{name: active, max_calls: {MOST_WINDOWS}}}", f"--budget={budget}")
        return plan_round(settings, record, Spend(), ids, sink.layout.filesystem, list(state.files))

    planned = plan("{windows: 20, allocation: uncertainty, first_windows: 2, target_stability: 0.8}")
    assert (planned.windows, planned.allotted) == (3 + 3 + 1 + 2 + 0 + 2, 13)
    assert planned.limits.to_pylist() == [{QUERY_ID: "new", MAX_WINDOWS: 2}]
    limits = plan("{windows: 20}").limits
    assert [tuple(each.values()) for each in limits.to_pylist()] == [("new", 5), ("open", 4), ("stable", 4)]
    assert plan("{tokens: 9}").spent == f"{42 * (3 + 2 + 1 + 2 + 0 + 2)} of 9 tokens spent, 11 windows requested"


BUDGETED = ("--strategy={name: active, window: 4, depth: 10, cutoff: 3}", "--budget.windows=20")


def test_a_budget_is_refused_with_settings_that_do_not_allow_it(tmp_path: Path) -> None:
    preflight(config(tmp_path, *BUDGETED))
    preflight(config(tmp_path, "--strategy={name: shuffle_consensus, depth: 20}", *BUDGETED[1:]))
    for overrides, reason in {
        ("--strategy.name=sliding_window",): "sliding_window cannot continue .* to active or shuffle_consensus$",
        ("--strategy={name: shuffle_consensus, depth: 21}",): "sliding windows; .*depth to strategy.window, 20$",
        (*BUDGETED, "--output.completion_cache=false"): "output.completion_cache",
        (*BUDGETED, "--reuse.outputs=elsewhere"): "reuse.outputs",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            preflight(config(tmp_path, "--budget.windows=20", *overrides))
    job = config(tmp_path, *BUDGETED)
    check_budget(job, 20, NESTED_INPUT, [])
    with pytest.raises(ConfigError, match="too small: the first round of 21 queries takes 21"):
        check_budget(job, 21, NESTED_INPUT, [])
    more_than_a_query_can_use = ("--budget.allocation=uncertainty", "--budget.first_windows=99")
    needed = 20 * job.strategy.max_windows(job.input.max_candidates)
    with pytest.raises(ConfigError, match=f"the first round of 20 queries takes {needed}"):
        check_budget(config(tmp_path, *BUDGETED, *more_than_a_query_can_use), 20, NESTED_INPUT, [])
    with pytest.raises(ConfigError, match="retry-failed"):
        check_budget(job, 20, NESTED_INPUT, ["failed"])
    with pytest.raises(InputError, match="max_windows"):
        check_budget(job, 20, pa.schema([(MAX_WINDOWS, pa.string())]), [])
    for key in ("first_windows=2", "target_stability=0.9", "allocation=uncertainty"):
        with pytest.raises(ConfigError, match="uncertainty"):
            config(tmp_path, *BUDGETED, f"--budget.{key}")


def test_the_budget_belongs_to_the_fingerprint_of_a_run_that_has_one(tmp_path: Path) -> None:
    prints = [
        config(tmp_path, BUDGETED[0], *budget).fingerprint() for budget in ((), BUDGETED[1:], ("--budget.windows=21",))
    ]
    assert len(set(prints)) == 3
    assert "budget" not in config(tmp_path, BUDGETED[0]).fingerprint_fields()


def test_a_column_of_the_input_with_the_name_of_the_limit_is_no_limit(tmp_path: Path) -> None:
    job = config(tmp_path)
    sink = ParquetSink(job.output, job.storage)
    sink.begin({}, 1, config_yaml="")
    schema = output_schema(pa.schema([(MAX_WINDOWS, pa.int32())]), {})
    for rows in ([row("a", 9, [1], status="degraded")], [row("a", 1, [1])]):
        sink.write_file([pa.Table.from_pylist(rows, schema)], schema)
    assert sink.prepare(pa.chunked_array([["a"]])).by_status == {"complete": 1}
