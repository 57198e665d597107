"""The choice of positives and negatives, and their labels."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.export.settings import TrainingConfig
from corpus_reranker.export.training import TrainingQuery, select
from helpers.synthetic_output import output_row

LIST = output_row("q", list(range(30)))["ranking"]


def take(
    ranking: list[dict[str, Any]] = LIST, judgments: dict[str, int] | None = None, **options: Any
) -> TrainingQuery:
    return select("q", ranking, TrainingConfig(**options), judgments)


def ids(documents: Any) -> list[str]:
    return [document.doc_id for document in documents]


def scored(scores: dict[str, float | None], field: str = "llm_score") -> list[dict[str, Any]]:
    return [{**entry, field: scores.get(entry["doc_id"])} for entry in LIST]


RELEVANCES = st.dictionaries(st.sampled_from([f"d{number}" for number in range(32)]), st.integers(-1, 3))


@given(
    order=st.permutations(range(30)),
    scores=st.lists(st.none() | st.floats(-5, 5), min_size=30, max_size=30),
    judgments=RELEVANCES,
    options=st.fixed_dictionaries(
        {
            "positives": st.integers(1, 4),
            "negatives": st.integers(1, 9),
            "min_negative_rank": st.integers(5, 12),
            "min_relevance": st.integers(1, 3),
            "label": st.sampled_from([None, "rank", "llm_score", "grade"]),
            "qrels": st.just("qrels.txt"),
            "false_negative_margin": st.floats(0, 2),
            "min_disagreement": st.none() | st.integers(1, 10),
            "seed": st.integers(0, 3),
        }
    ),
)
def test_no_negative_is_judged_relevant_and_no_positive_judged_not_relevant(
    order: list[int], scores: list[float | None], judgments: dict[str, int], options: dict[str, Any]
) -> None:
    ranking = output_row("q", order)["ranking"]
    for entry, score in zip(ranking, scores, strict=True):
        entry["llm_score"] = score
    query = take(ranking, judgments, **options)
    config = TrainingConfig(**options)
    relevant = {doc_id for doc_id, grade in judgments.items() if grade >= config.min_relevance}
    ranks = {entry["doc_id"]: entry["rank"] for entry in ranking}
    positives, candidates = ids(query.positives), ids(query.candidates)
    assert not relevant & set(candidates)
    assert set(positives) <= relevant | (ranks.keys() - judgments.keys())
    assert all(ranks[doc_id] <= config.positives for doc_id in positives)
    assert all(ranks[doc_id] >= config.min_negative_rank for doc_id in candidates)
    for rank in (None, 1):
        sample = query.sample(config, rank)
        assert len(sample) == min(config.negatives, len(candidates)) == len(set(ids(sample)))
        assert set(ids(sample)) <= set(candidates)
        assert query.sample(config, rank) == sample
    for positive in query.positives:
        assert all(each.label <= positive.label - config.false_negative_margin for each in query.candidates)


def test_the_top_ranks_are_positives_and_low_ranks_negatives() -> None:
    query = take(positives=2, min_negative_rank=21, max_negative_rank=28, negatives=4)
    assert ids(query.positives) == ["d0", "d1"]
    assert ids(query.candidates) == [f"d{number}" for number in range(20, 28)]


def test_each_positive_has_its_own_sample_and_each_seed_another() -> None:
    config = TrainingConfig(negatives=5)
    assert take().sample(config, 1) != take().sample(config, 2)
    assert take().sample(config, 1) != take().sample(TrainingConfig(negatives=5, seed=1), 1)


def test_the_order_of_the_entries_does_not_matter() -> None:
    assert take(LIST[::-1]) == take()


def test_labels_are_reciprocal_ranks_without_scores() -> None:
    query = take(min_negative_rank=29)
    assert (query.label_source, [each.label for each in (*query.positives, *query.candidates)]) == (
        "rank",
        [1, 1 / 29, 1 / 30],
    )


def test_labels_are_the_scores_of_the_llm_where_the_positives_have_one() -> None:
    query = take(scored({"d0": 2.5, "d28": 0.5}), min_negative_rank=28)
    assert (query.label_source, query.positives[0].label) == ("llm_score", 2.5)
    assert [(each.doc_id, each.label) for each in query.candidates] == [("d28", 0.5)]
    assert take(scored({"d28": 0.5})).label_source == "rank"


def test_a_named_label_skips_documents_without_it() -> None:
    assert take(scored({"d28": 0.5}), label="llm_score").problem() == "no positive"
    query = take(judgments={"d0": 3, "d28": 0}, label="grade", qrels="qrels.txt")
    assert [(each.doc_id, each.label) for each in (*query.positives, *query.candidates)] == [("d0", 3), ("d28", 0)]


def test_a_negative_is_the_margin_below_the_lowest_positive() -> None:
    ranking = scored({"d0": 2.0, "d1": 1.5, **{f"d{number}": 2 - number / 20 for number in range(20, 30)}})
    query = take(ranking, positives=2, false_negative_margin=0.85)
    assert ids(query.candidates) == ["d27", "d28", "d29"]  # labels of at most 0.65


def test_hard_negatives_are_those_that_the_other_ranking_places_higher() -> None:
    ranking = output_row("q", [*range(20, 30), *range(20)])["ranking"]  # d0 to d19 fall by ten ranks
    assert ids(take(ranking, min_disagreement=10, min_negative_rank=5).candidates) == [f"d{n}" for n in range(20)]
    assert take(ranking, min_disagreement=11).problem() == "too few negatives"

    by_pre_ranker = scored({"d29": 9.0, "d28": 1.0, "d0": 5.0}, "pre_ranker_score")
    query = take(by_pre_ranker, min_disagreement=26, disagreement_with="pre_ranker")
    assert ids(query.candidates) == ["d28", "d29"]  # ranks 3 and 1 of the pre-ranker


@pytest.mark.parametrize(
    "options", [{"positives": 5, "min_negative_rank": 5}, {"min_negative_rank": 50, "max_negative_rank": 49}]
)
def test_contradicting_ranks_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="min_negative_rank"):
        TrainingConfig(**options)
