"""The ranks that a written answer names: each unambiguous form is read, and an ambiguous answer is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.answers.written_ranking import read_ranks
from corpus_reranker.types import AnswerFlag
from helpers.scripts import parse
from helpers.tried_answers import TRIED_ANSWERS, TriedAnswer


@pytest.mark.parametrize("tried", TRIED_ANSWERS, ids=lambda tried: tried.answer)
def test_ranks_that_an_answer_names(tried: TriedAnswer) -> None:
    assert read_ranks(tried.answer, tried.num_passages) == list(tried.ranks)
    assert read_ranks(f"\n{tried.answer}\n", tried.num_passages) == list(tried.ranks)


@pytest.mark.parametrize("tried", TRIED_ANSWERS, ids=lambda tried: tried.answer)
def test_every_format_reads_the_same_answers(tried: TriedAnswer) -> None:
    responses = {
        "plain": tried.answer,
        "after_reasoning": f"[2] > [1], no.</think>{tried.answer}",
        "reasoning": f"<think>[2] > [1], no.</think><answer>{tried.answer}</answer>",
    }
    for answer_format, response in responses.items():
        judgment = parse(response, tried.num_passages, answer_format)
        assert [position + 1 for position in judgment.order[: judgment.named]] == list(tried.ranks)
        is_complete = judgment.named == tried.num_passages
        assert judgment.status == ("no_answer" if not tried.ranks else "complete" if is_complete else "repaired")


@pytest.mark.parametrize(
    ("answer", "order", "status", "flags"),
    [
        ("[0] > [4] > [2] > [1] > [3]", (0, 4, 2, 1, 3), "complete", ("zero_based",)),
        ("[0] > [4] > [2] > [1] > [3] > [0]", (0, 4, 2, 1, 3), "repaired", ("zero_based",)),
        ("4, 0, 2, 1, 3", (4, 0, 2, 1, 3), "complete", ("zero_based",)),
        ('{"ranking": [4, 0, 2, 1, 3]}', (4, 0, 2, 1, 3), "complete", ("zero_based",)),
        ("[0] > [4] > [2]", (0, 1, 2, 3, 4), "no_answer", ("zero_based",)),
        ("[0] > [5] > [2]", (4, 1, 0, 2, 3), "repaired", ()),
        ("[5] > [0]", (4, 0, 1, 2, 3), "repaired", ()),
        ("[1,000] > [5]", (4, 0, 1, 2, 3), "repaired", ()),
        ("[9] > [5] > [99999999999999]", (4, 0, 1, 2, 3), "repaired", ()),
    ],
)
def test_answers_that_count_from_zero(
    answer: str, order: tuple[int, ...], status: str, flags: tuple[AnswerFlag, ...]
) -> None:
    judgment = parse(answer, 5, "plain")
    assert (judgment.order, judgment.status, judgment.flags) == (order, status, flags)


@pytest.mark.parametrize(
    ("answer", "order", "authors_order"),
    [
        ("[3] > [1]", (2, 0, 1), (2, 0, 1)),
        ("1. [3]\n2. [1]", (2, 0, 1), (0, 2, 1)),
        ("The top 2: [3] > [1]", (2, 0, 1), (1, 2, 0)),
        ("[3] (score 2) > [1]", (2, 0, 1), (2, 1, 0)),
        ("[0] > [2] > [1]", (0, 2, 1), (1, 0, 2)),
        ("[2] > ... > [1]", (0, 1, 2), (1, 0, 2)),
    ],
)
def test_the_reading_of_reasonranks_own_code(
    answer: str, order: tuple[int, ...], authors_order: tuple[int, ...]
) -> None:
    """`_clean_response` of ReasonRank's rerank/rankllm.py replaces all but digits by spaces."""
    differs = "reasonrank_differs"
    ours, theirs = (parse(f"<answer>{answer}</answer>", 3, name) for name in ("reasoning", "reasonrank"))
    assert (ours.order, theirs.order) == (order, authors_order)
    assert (differs in ours.flags) == (differs in theirs.flags) == (order != authors_order)


PERMUTATIONS = st.integers(2, 30).flatmap(lambda n: st.permutations(range(1, n + 1)))
PREFIXES = st.tuples(PERMUTATIONS, st.integers(2, 30)).map(lambda pair: (pair[0][: pair[1]], len(pair[0])))


@given(PERMUTATIONS, st.sampled_from([" > ", ">", ", ", " ", "\n", " = ", "\n> "]))
def test_bracketed_permutations_are_read_exactly(ranks: list[int], separator: str) -> None:
    answer = separator.join(f"[{rank}]" for rank in ranks)
    assert read_ranks(answer, len(ranks)) == ranks
    judgment = parse(f"<think>[1]</think><answer>{answer}</answer>", len(ranks), "reasoning")
    assert (judgment.status, judgment.named, judgment.flags) == ("complete", len(ranks), ())


@given(PREFIXES, st.sampled_from(["[{}]", "{}", "**[{}]**", "[{}] because of 7 reasons"]), st.sampled_from(".)"))
def test_item_numbers_do_not_change_the_reading(case: tuple[list[int], int], form: str, mark: str) -> None:
    ranks, num_passages = case
    items = [form.format(rank) for rank in ranks]
    numbered = [f"{number}{mark} {item}" for number, item in enumerate(items, start=1)]
    assert read_ranks("\n".join(items), num_passages) == ranks
    assert read_ranks("\n".join(numbered), num_passages) == ranks


@given(PREFIXES)
def test_json_and_text_name_the_same_ranks(case: tuple[list[int], int]) -> None:
    ranks, num_passages = case
    for answer in (
        ranks,
        [str(rank) for rank in ranks],
        {"ranking": ranks},
        {"order": [f"[{rank}]" for rank in ranks]},
    ):
        assert read_ranks(json.dumps(answer), num_passages) == ranks
        assert read_ranks(f"```json\n{json.dumps(answer, indent=1)}\n```", num_passages) == ranks


@given(PREFIXES, st.lists(st.floats(0, 1) | st.integers(0, 40), min_size=30, max_size=30))
def test_scores_in_parentheses_do_not_change_the_reading(case: tuple[list[int], int], scores: list[float]) -> None:
    ranks, num_passages = case
    for form in ("[{}]", "{}"):
        scored = [f"{form.format(rank)} ({score})" for rank, score in zip(ranks, scores, strict=False)]
        assert read_ranks(" > ".join(scored), num_passages) == ranks
