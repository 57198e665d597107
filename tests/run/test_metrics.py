"""Names of the metrics in code, dashboard and docs. test_cluster_run.py tests their values."""

import json
import re
from collections import defaultdict
from typing import Any

import pytest

from corpus_reranker.engines.prices import TokenPrices
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.run import metrics
from corpus_reranker.run.metrics import PREFIX, RunMetrics
from helpers.paths import REPOSITORY

SUFFIXES = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}
"""Suffixes that Ray's exporter appends to a metric's name."""


class Recorder:
    """Stands in for Ray's metrics and records their values by name and labels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exported: set[str] = set()
        self.values: dict[str, dict[tuple[str, ...], float]] = defaultdict(lambda: defaultdict(float))
        for kind in SUFFIXES:
            monkeypatch.setattr(metrics, kind, self._metric_class(kind))

    def _metric_class(self, kind: str) -> Any:
        recorder = self

        class Metric:
            def __init__(self, name: str, description: str, *rest: Any) -> None:
                assert description
                self._values, self._labels = recorder.values[name.removeprefix(PREFIX)], rest[-1]
                recorder.exported |= {f"ray_{name}{suffix}" for suffix in SUFFIXES[kind]}

            def inc(self, value: float, labels: dict[str, str]) -> None:
                assert (kind, value > 0) == ("Counter", True)
                self._values[self._key(labels)] += value

            def set(self, value: float, labels: dict[str, str]) -> None:
                assert kind == "Gauge"
                self._values[self._key(labels)] = value

            def observe(self, value: float, labels: dict[str, str]) -> None:
                assert kind == "Histogram"
                self._values[self._key(labels)] += value

            def _key(self, labels: dict[str, str]) -> tuple[str, ...]:
                assert set(labels) == set(self._labels)
                return tuple(labels[label] for label in self._labels)

        return Metric


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def test_counts_reach_their_metrics(recorder: Recorder) -> None:
    run = RunMetrics("r1", 10)
    run.count(
        {"queries_complete": 3, "windows_no_answer": 2, "output_tokens": 70, "engine_deaths": 1, "completions": 0}
    )
    run.count({"answers_one_name": 2})
    run.observe({"window": [2.0, 3.0], "queue_wait": [0.5]})
    run.in_flight("host:1", 4, 5, 6)
    assert recorder.values["queries"] == {("r1", "complete"): 3}
    assert recorder.values["windows"] == {("r1", "no_answer"): 2}
    assert recorder.values["answers"] == {("r1", "one_name"): 2}
    assert recorder.values["output_tokens"] == {("r1",): 70}
    assert recorder.values["engine_deaths"] == {("r1",): 1}
    assert recorder.values["queries_remaining"] == {("r1",): 7}
    assert recorder.values["window_seconds"] == {("r1",): 5.0}
    assert recorder.values["queue_wait_seconds"] == {("r1",): 0.5}
    assert recorder.values["target_windows_in_flight"] == {("r1", "host:1"): 6}
    assert not recorder.values["completions"]


def test_the_billed_tokens_have_a_cost(recorder: Recorder) -> None:
    run = RunMetrics("r1", 10, prices=TokenPrices(prompt=2.0, cached_prompt=0.5, output=8.0))
    for _ in range(2):
        run.count({"billed_prompt_tokens": 1000, "billed_cached_prompt_tokens": 400, "billed_output_tokens": 100})
    assert recorder.values["billed_output_tokens"] == {("r1",): 200}
    assert recorder.values["cost"] == {("r1",): pytest.approx(2 * (600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)}


def test_the_dashboard_queries_existing_metrics(recorder: Recorder) -> None:
    RunMetrics("r1", 0)
    board = json.loads((CONFIGS_DIRECTORY / "deploy" / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert expressions
    for expression in expressions:
        names = set(re.findall(r"\bray_\w+", expression))
        assert names
        assert names <= recorder.exported
        assert expression.count('run_id=~"$run_id"') == len(re.findall(r"\bray_\w+", expression))


def test_the_docs_list_every_metric(recorder: Recorder) -> None:
    RunMetrics("r1", 0)
    text = (REPOSITORY / "docs" / "operating.md").read_text()
    documented = set(re.findall(rf"`(ray_{PREFIX}\w+)", text))
    assert documented <= recorder.exported | {name.removesuffix("_bucket") for name in recorder.exported}
    for name in recorder.exported:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in documented or name in documented, name
