"""Calibrations: fitting, measuring on other queries, files, and their use on rankings."""

import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.evaluation.calibration_fit import (
    JudgedPairs,
    fit_calibration,
    read_pairs,
    reliability,
)
from corpus_reranker.evaluation.outputs import open_output
from corpus_reranker.evaluation.settings import CalibrateConfig
from corpus_reranker.io.calibration import (
    Calibration,
    check_calibrated,
    read_calibration,
    score_values,
    to_json,
    with_probabilities,
)
from corpus_reranker.types import CalibrationMethod
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

LOCAL = LocalFileSystem()
METHODS = get_args(CalibrationMethod)
STEPS = Calibration("isotonic", "rank", {"scores": [-3.0, -1.0], "probabilities": [0.1, 0.9]}, 1, 10, 5)
"""0.9 at rank 1, 0.5 at rank 2, 0.1 below."""


def config(**values: Any) -> CalibrateConfig:
    return CalibrateConfig(qrels="", **values)


def judged_pairs(seed: int = 0, queries: int = 40, depth: int = 25) -> JudgedPairs:
    """Documents whose probability to be relevant is 1 / (1 + exp(-score))."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(-1, 2, queries * depth)
    relevant = rng.random(len(scores)) < 1 / (1 + np.exp(-scores))
    query_ids = [f"q{number:03d}" for number in range(queries)]
    return JudgedPairs("llm_score", query_ids, np.repeat(np.arange(queries), depth), scores, relevant, 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_recovers_the_probability_that_made_the_judgments(method: CalibrationMethod) -> None:
    fitted = fit_calibration(judged_pairs(queries=400), config(method=method), {})
    scores = np.linspace(-4, 3, 50)
    assert np.abs(fitted.calibration.predict(scores) - 1 / (1 + np.exp(-scores))).mean() < 0.03
    assert fitted.after.ece < 0.02 < fitted.before.ece
    assert fitted.after.brier < fitted.base_rate.brier
    assert (fitted.calibration.pairs, fitted.calibration.queries) == (10_000, 400)


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_is_monotone_and_from_0_to_1(method: CalibrationMethod) -> None:
    calibration = fit_calibration(judged_pairs(), config(method=method), {}).calibration
    probabilities = calibration.predict(np.array([-1e9, *np.linspace(-9, 9, 100), 1e9]))
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert np.isnan(calibration.predict(np.array([np.nan]))).all()


def test_a_missing_scikit_learn_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(ConfigError, match=r"corpus-reranker\[calibration\]"):
        fit_calibration(judged_pairs(), config(), {})


def test_each_fold_is_predicted_by_the_others() -> None:
    pairs = judged_pairs(queries=4)
    first = pairs.query % 2 == 0
    one_sided = JudgedPairs("llm_score", pairs.query_ids, pairs.query, pairs.scores, first, 0)
    with pytest.raises(InputError, match="too few judged pairs"):
        fit_calibration(one_sided, config(), {})
    random = JudgedPairs("llm_score", pairs.query_ids, pairs.query, pairs.scores, pairs.relevant ^ first, 0)
    assert fit_calibration(random, config(), {}).after.ece > 0.3  # the halves contradict each other


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_the_calibration_error_is_the_mean_distance_over_bins(pairs: list[tuple[float, bool]]) -> None:
    predictions, relevant = np.array([each for each, _ in pairs]), np.array([each for _, each in pairs])
    measured = reliability(predictions, relevant)
    assert sum(each.pairs for each in measured.bins) == len(pairs)
    distances = [each.pairs * abs(each.predicted - each.observed) for each in measured.bins]
    assert measured.ece == pytest.approx(sum(distances) / len(pairs))
    assert 0 <= measured.ece <= 1
    assert reliability(relevant.astype(float), relevant).ece == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_file_gives_the_same_calibration(method: CalibrationMethod, tmp_path: Path) -> None:
    calibration = fit_calibration(judged_pairs(), config(method=method), {"reranker.fingerprint": "f"}).calibration
    (tmp_path / "c.json").write_text(to_json(calibration))
    assert read_calibration(LOCAL, str(tmp_path / "c.json")) == calibration


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"calibration": 2}', '{"calibration": 1, "method": "platt"}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match="is not a calibration"):
        read_calibration(LOCAL, str(tmp_path / "c.json"))


def test_judged_documents_of_queries_that_did_not_fail_are_read(tmp_path: Path) -> None:
    rows = [output_row("b", [2, 0, 1]), output_row("a", [1, 0]), output_row("f", [0, 1], status="failed")]
    write_data_files(tmp_path / "out", [rows[:1], [*rows[1:], output_row("unjudged", [0])]])
    qrels = {"a": {"d0": 2, "x": 1}, "b": {"d1": 1, "d2": 0}, "f": {"d0": 1}}
    pairs = read_pairs(LOCAL, "out", open_output(LOCAL, str(tmp_path / "out")), qrels, config(min_relevance=2))
    assert pairs.query_ids == ["a", "b"]
    found = zip(pairs.query.tolist(), pairs.scores.tolist(), pairs.relevant.tolist(), strict=True)
    assert sorted(found) == [(0, -2, True), (1, -3, False), (1, -1, False)]
    assert pairs.score == "rank"


@pytest.mark.parametrize(
    ("llm_scores", "score"),
    [
        ({}, "rank"),
        ({"a": [0.1, None]}, "rank"),
        ({"a": [0.1, None], "b": [None, 0.2]}, "llm_score"),
        ({"a": [0.0, 0.0], "b": [0.2, 0.1]}, "llm_score"),
    ],
)
def test_the_score_is_the_llms_if_each_query_has_one(
    llm_scores: dict[str, list[float | None]], score: str, tmp_path: Path
) -> None:
    rows = [output_row(query_id, [0, 1]) for query_id in ("a", "b")]
    for row in rows:
        for entry, value in zip(row["ranking"], llm_scores.get(row["query_id"], [None, None]), strict=True):
            entry["llm_score"] = value
    write_data_files(tmp_path / "out", [rows])
    output = open_output(LOCAL, str(tmp_path / "out"))
    qrels = {query_id: {"d0": 1, "d1": 1} for query_id in ("a", "b")}
    pairs = read_pairs(LOCAL, "out", output, qrels, config())
    assert (pairs.score, len(pairs.scores)) == (score, 4 if score == "rank" else 4 - pairs.unscored)
    assert read_pairs(LOCAL, "out", output, qrels, config(score="rank")).score == "rank"
    with pytest.raises(ValueError, match="derived from the rank"):
        config(score="score")


def test_documents_without_the_score_are_skipped(tmp_path: Path) -> None:
    row = output_row("a", [0, 1])
    row["ranking"][0]["pre_ranker_score"] = 0.5
    write_data_files(tmp_path / "out", [[row]])
    output = open_output(LOCAL, str(tmp_path / "out"))
    pairs = read_pairs(LOCAL, "out", output, {"a": {"d0": 1, "d1": 1}}, config(score="pre_ranker_score"))
    assert (pairs.scores.tolist(), pairs.unscored) == ([0.5], 1)
    for score in ("no_such_score", "doc_id"):
        with pytest.raises(InputError, match=f"field '{score}'"):
            read_pairs(LOCAL, "out", output, {"a": {"d0": 1}}, config(score=score))


def batch_of(*orders: list[int] | None) -> pa.RecordBatch:
    """Output rows with these orders; None: a null ranking."""
    rows = [dict.fromkeys(SCHEMA.names) | output_row(f"q{number}", order or []) for number, order in enumerate(orders)]
    for row, order in zip(rows, orders, strict=True):
        row["ranking"] = None if order is None else row["ranking"]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def test_rankings_get_probabilities() -> None:
    batch = with_probabilities(batch_of([1, 0, 2, 3], None, [], [0]).slice(0, 4), STEPS)
    rankings = batch["ranking"].to_pylist()
    assert [[entry["p_relevant"] for entry in each] for each in rankings] == [
        pytest.approx([0.9, 0.5, 0.1, 0.1]),
        [],
        [],
        pytest.approx([0.9]),
    ]
    assert [entry["doc_id"] for entry in rankings[0]] == ["d1", "d0", "d2", "d3"]


def test_a_failed_query_has_no_probabilities() -> None:
    batch = batch_of([0, 1], [1, 0])
    batch = batch.set_column(batch.schema.get_field_index("status"), "status", pa.array(["failed", "complete"]))
    rankings = with_probabilities(batch, STEPS)["ranking"].to_pylist()
    assert [[entry["p_relevant"] for entry in each] for each in rankings] == [[None, None], pytest.approx([0.9, 0.5])]
    kept = with_probabilities(batch, STEPS, 0.0)["ranking"].to_pylist()
    assert [len(each) for each in kept] == [0, 2]


def test_the_cutoff_applies_to_the_probabilities_of_the_output_without_a_calibration() -> None:
    calibrated = with_probabilities(batch_of([0, 1, 2], [1, 0]), STEPS)
    assert with_probabilities(calibrated, None, 0.5).equals(with_probabilities(calibrated, STEPS, 0.5))
    assert with_probabilities(calibrated, None).equals(calibrated)


@given(st.lists(st.integers(0, 6).flatmap(lambda n: st.permutations(range(n))), min_size=1), st.floats(0, 1))
def test_a_cutoff_keeps_ranks_and_the_documents_that_reach_it(orders: list[list[int]], limit: float) -> None:
    everything, kept = (
        with_probabilities(batch_of(*orders), STEPS, each)["ranking"].to_pylist() for each in (None, limit)
    )
    assert kept == [[entry for entry in entries if entry["p_relevant"] >= limit] for entries in everything]


def test_a_calibration_of_other_settings_is_refused() -> None:
    fitted = Calibration("isotonic", "rank", STEPS.parameters, 1, 1, 1, fingerprint="one")
    check_calibrated({"reranker.fingerprint": "one"}, "out", fitted)
    check_calibrated({}, "out", fitted)
    with pytest.raises(InputError, match="out has other settings"):
        check_calibrated({"reranker.fingerprint": "two"}, "out", fitted)
    with pytest.raises(InputError, match="out has no p_relevant"):
        check_calibrated({"reranker.fingerprint": "one", "reranker.calibration": ""}, "out", None)
    check_calibrated({"reranker.calibration": "digest"}, "out", None)


def test_ranks_are_mapped_as_their_negatives() -> None:
    entries = batch_of([1, 0])["ranking"].flatten()
    assert score_values(entries, "rank").tolist() == [-1, -2]
    assert score_values(entries, "initial_score").tolist() == [1, 2]
