"""Measures against values worked by hand and against trec_eval."""

import json
import math
from pathlib import Path

import ir_measures
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.measures import SystemScores, parse_measures, query_values, split_measures
from corpus_reranker.evaluation.trec import group_qrels, group_run, trec_order
from corpus_reranker.io.trec import open_text, read_qrels, read_run

QRELS = {"1": {"a": 2, "b": 1, "c": 0}, "2": {"x": 1}}


def one(measure: str, orders: dict[str, list[str]], qrels: dict[str, dict[str, int]] = QRELS) -> dict[str, float]:
    return {query_id: value for query_id, _, value in query_values(parse_measures([measure]), qrels, orders)}


def mean(measure: str, orders: dict[str, list[str]], qrels: dict[str, dict[str, int]]) -> float:
    scores = SystemScores("system", parse_measures([measure]), qrels)
    scores.add({query_id: order for query_id, order in orders.items() if query_id in qrels})
    return float(scores.values[0].mean())


@pytest.mark.parametrize(
    ("measure", "order", "value"),
    [
        ("nDCG@10", ["a", "b", "c"], 1.0),
        ("nDCG@10", ["b", "a"], (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))),
        ("nDCG@1", ["b", "a"], 0.5),
        ("RR@10", ["c", "u", "b"], 1 / 3),
        ("RR@2", ["c", "u", "b"], 0.0),
        ("RR(rel=2)", ["b", "c", "a"], 1 / 3),
        ("AP", ["a", "u", "b"], (1 / 1 + 2 / 3) / 2),
        ("R@1", ["b", "a"], 0.5),
        ("P@5", ["a", "b"], 0.4),
        ("Judged@2", ["a", "u"], 0.5),
        ("nDCG@10", [], 0.0),
    ],
)
def test_measures_equal_values_computed_by_hand(measure: str, order: list[str], value: float) -> None:
    assert one(measure, {"1": order}) == {"1": pytest.approx(value)}


def test_a_judged_query_that_is_missing_counts_as_zero() -> None:
    assert mean("nDCG@10", {"1": ["a", "b", "c"]}, QRELS) == 0.5


def test_a_query_without_a_relevant_document_counts_as_zero() -> None:
    assert mean("nDCG@10", {"1": ["a"], "2": ["x"]}, {"1": {"a": 0}, "2": {"x": 1}}) == 0.5


@pytest.mark.parametrize("measure", ["nDCG@10", "RR@10", "Judged@10", "ERR@10"])
def test_ids_with_spaces_and_letters_change_nothing(measure: str) -> None:
    if measure == "ERR@10" and not ir_measures.gdeval.is_available():
        pytest.skip("ERR is computed by gdeval, which needs perl")
    plain = one(measure, {"1": ["c", "b", "a"]})["1"]
    spaced = one(measure, {"q 1": ["c c", "b b", "a a"]}, {"q 1": {"a a": 2, "b b": 1, "c c": 0}})["q 1"]
    assert plain == spaced > 0


@given(
    st.dictionaries(
        st.text("abAB1 ", min_size=1, max_size=3), st.sampled_from([0.5, 0.25, 0.1, 0.1 + 1e-12]), min_size=1
    ),
    st.data(),
)
@settings(max_examples=200)
def test_values_with_tied_scores_equal_those_of_trec_eval(scores: dict[str, float], data: st.DataObject) -> None:
    documents = st.sampled_from([*scores, "never retrieved"])
    qrels = {"1": data.draw(st.dictionaries(documents, st.integers(0, 3), min_size=1))}
    names = {"nDCG@10": "ndcg_cut_10", "AP": "map", "R@5": "recall_5", "RR": "recip_rank", "P@5": "P_5"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, set(names.values())).evaluate({"1": scores})["1"]
    for measure, trec_name in names.items():
        assert one(measure, {"1": trec_order(scores)}, qrels)["1"] == pytest.approx(expected[trec_name])


def test_measures_are_split_at_commas_outside_parentheses() -> None:
    assert split_measures("nDCG(dcg='exp-log2',judged_only=True)@10, RR@10,") == (
        "nDCG(dcg='exp-log2',judged_only=True)@10",
        "RR@10",
    )


@pytest.mark.parametrize(
    "measure", ["nDGC@10", "nDCG@ten", "nDCG(", "P", "nDCG@10; import os", "1 + 1", "nDCG(foo=1)@10"]
)
def test_an_unknown_measure_is_reported(measure: str) -> None:
    with pytest.raises(InputError, match="cannot compute measure"):
        parse_measures([measure])


def test_bm25_on_dl20_has_its_published_ndcg(shared: Path) -> None:
    hits = json.loads((shared / "data/dl20/retrieve_results_dl20_bm25_top100.json").read_text())
    orders = {
        str(query["hits"][0]["qid"]): [hit["docid"] for hit in sorted(query["hits"], key=lambda hit: hit["rank"])]
        for query in hits
    }
    with open_text(str(shared / "data/dl20/qrels.dl20-passage.txt")) as lines:
        qrels = group_qrels(read_qrels(lines))
    assert round(mean("nDCG@10", orders, qrels), 4) == 0.4796


@pytest.mark.parametrize(("subset", "published"), [("economics", 32.65), ("stackoverflow", 30.96)])
def test_bright_equals_trec_eval(shared: Path, subset: str, published: float) -> None:
    run_path = str(shared / f"data/bright/run.{subset}.reasonir_gpt4cot_top100.txt.gz")
    with open_text(str(shared / f"data/bright/qrels.bright-{subset}.txt")) as lines:
        qrels = group_qrels(read_qrels(lines))
    with open_text(run_path) as lines:
        run = list(read_run(lines))
    value = mean("nDCG@10", group_run(run), qrels)
    assert round(100 * value, 2) == published

    scores: dict[str, dict[str, float]] = {}
    for line in run:
        scores.setdefault(line.query_id, {})[line.doc_id] = line.score
    by_trec_eval = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10"}).evaluate(scores)
    assert value == pytest.approx(sum(query["ndcg_cut_10"] for query in by_trec_eval.values()) / len(qrels), abs=1e-12)


def test_bright_lines_with_spaces_in_docids_count(shared: Path) -> None:
    """None of the 12 documents is relevant, so nDCG@10 does not show them, but each has a rank."""
    with open_text(str(shared / "data/bright/run.stackoverflow.reasonir_gpt4cot_top100.txt.gz")) as lines:
        run = list(read_run(lines))
    spaced = [line for line in run if " " in line.doc_id]
    orders = group_run(run)
    assert len(spaced) == 12
    assert sum(map(len, orders.values())) == len(run)
    assert [orders["4"].index(line.doc_id) + 1 for line in spaced if line.query_id == "4"] == [7, 10, 11, 21, 22]
    retrieved = {"4": {line.doc_id: 1 for line in spaced if line.query_id == "4"}}
    assert one("AP", {"4": orders["4"]}, retrieved)["4"] == pytest.approx(
        (1 / 7 + 2 / 10 + 3 / 11 + 4 / 21 + 5 / 22) / 5
    )
