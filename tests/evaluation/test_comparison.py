"""Means and comparisons of several systems over the same qrels."""

import math
from collections.abc import Iterator

import pytest

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.comparison import evaluate, macro_means, per_query
from corpus_reranker.evaluation.rankings import QueryOrders
from corpus_reranker.evaluation.settings import EvaluateConfig

QRELS = {f"q{number}": {"good": 1} for number in range(4)}
BEFORE, AFTER = ["bad", "good"], ["good", "bad"]
SECOND = 1 / math.log2(3)
CONFIG = EvaluateConfig(qrels="unused", measures=("nDCG@10",), resamples=200)


def output(after: list[str] = AFTER, datasets: tuple[str | None, ...] = (None,) * 4) -> Iterator[QueryOrders]:
    for query_id, dataset in zip(QRELS, datasets, strict=False):
        yield QueryOrders(query_id, {"before": BEFORE, "after": after}, dataset)


def test_an_output_has_means_before_and_after_reranking() -> None:
    evaluation = evaluate({"out": output()}, QRELS, CONFIG)
    assert [(mean.system, mean.mean) for mean in evaluation.means] == [
        ("out before", pytest.approx(SECOND)),
        ("out after", 1.0),
    ]
    (comparison,) = evaluation.comparisons
    assert (comparison.system, comparison.baseline) == ("out after", "out before")
    assert comparison.difference == pytest.approx(1 - SECOND)
    assert (comparison.wins, comparison.ties, comparison.losses) == (4, 0, 0)
    assert comparison.p == comparison.p_holm == 2 / 16


def test_outputs_with_the_same_first_stage_share_its_system() -> None:
    evaluation = evaluate({"a": output(), "b": output(BEFORE)}, QRELS, CONFIG)
    assert [system.name for system in evaluation.systems] == ["a before", "a after", "b after"]
    assert len(evaluation.comparisons) == 3


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    all_pairs = evaluate({"a": output(), "b": output(BEFORE)}, QRELS, CONFIG)
    assert [c.p_holm for c in all_pairs.comparisons] == [3 / 8, 1.0, 3 / 8]
    with_baseline = evaluate(
        {"a": output(), "b": output(BEFORE)}, QRELS, CONFIG.model_copy(update={"baseline": "a after"})
    )
    assert [(c.system, c.p_holm) for c in with_baseline.comparisons] == [("a before", 2 / 8), ("b after", 2 / 8)]


def test_an_unknown_baseline_is_reported_with_the_known_systems() -> None:
    with pytest.raises(InputError, match="no system is named 'x'; known: out before, out after"):
        evaluate({"out": output()}, QRELS, CONFIG.model_copy(update={"baseline": "x"}))


def test_missing_queries_are_counted_and_count_as_zero() -> None:
    two = list(output())[:2]
    evaluation = evaluate({"out": two}, QRELS, CONFIG)
    assert evaluation.missing == {"out before": 2, "out after": 2}
    assert evaluation.means[1].mean == 0.5


def test_a_source_without_judged_queries_is_an_error() -> None:
    with pytest.raises(InputError, match="other holds none of the 4 judged queries"):
        evaluate({"other": []}, QRELS, CONFIG)


def test_means_are_computed_for_each_dataset() -> None:
    queries = [
        QueryOrders("q0", {"run": AFTER}, "x"),
        QueryOrders("q1", {"run": BEFORE}, "y"),
        QueryOrders("q2", {"run": BEFORE}, "y"),
    ]
    evaluation = evaluate({"run": queries}, QRELS, CONFIG)
    means = {(mean.dataset, mean.queries): mean.mean for mean in evaluation.means}
    assert means == pytest.approx({(None, 4): (1 + 2 * SECOND) / 4, ("x", 1): 1.0, ("y", 2): SECOND})
    assert macro_means(evaluation) == {"run": [pytest.approx((1 + SECOND) / 2)]}


def test_a_query_missing_from_one_system_counts_as_zero_in_its_dataset() -> None:
    evaluation = evaluate(
        {"out": output(datasets=("x", "x", "y", "y")), "run": [QueryOrders("q0", {"run": AFTER})]}, QRELS, CONFIG
    )
    means = {mean.dataset: mean.mean for mean in evaluation.means if mean.system == "run"}
    assert means == {None: 0.25, "x": 0.5, "y": 0.0}


def test_every_judged_query_has_a_value() -> None:
    rows = list(per_query(evaluate({"out": output()}, QRELS, CONFIG)))
    assert len(rows) == 2 * 4
    assert rows[-1] == ("out after", "q3", "", "nDCG@10", 1.0)


def test_queries_are_scored_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus_reranker.evaluation.comparison._QUERIES_PER_CALL", 3)
    evaluation = evaluate({"out": output()}, QRELS, CONFIG)
    assert evaluation.missing["out after"] == 0
    assert evaluation.means[1].mean == 1.0
