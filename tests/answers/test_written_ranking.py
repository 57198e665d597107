"""What a written answer names: the right reading of each form, and no reading of what is ambiguous."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.answers.written_ranking import read_ranks
from corpus_reranker.types import AnswerFlag
from helpers.scripts import parse

NOBODY: list[int] = []

ANSWERS = [
    # brackets: other numbers name nobody
    ("[3] > [1] > [2]", 3, [3, 1, 2]),
    ("[3]>[1]>[2]", 3, [3, 1, 2]),
    ("[3], [1], [2]", 3, [3, 1, 2]),
    ("[3] [1] [2]", 3, [3, 1, 2]),
    ("[3]\n[1]\n[2]", 3, [3, 1, 2]),
    ("[3] > [1]\n> [2]", 3, [3, 1, 2]),
    ("[3] = [1] > [2]", 3, [3, 1, 2]),
    ("[3] → [1] -> [2]", 3, [3, 1, 2]),
    ("[3] &gt; [1] &gt; [2]", 3, [3, 1, 2]),
    ("【3】 > 【1】 > 【2】", 3, [3, 1, 2]),
    (r"\[3\] > \[1\] > \[2\]", 3, [3, 1, 2]),
    ("**[3]** > **[1]** > **[2]**", 3, [3, 1, 2]),
    ("`[3] > [1] > [2]`", 3, [3, 1, 2]),
    ("[3, 1] > [2]", 3, [3, 1, 2]),
    ("[3, 1, 2]", 3, [3, 1, 2]),
    ("[3 > 1 > 2]", 3, [3, 1, 2]),
    ("3] > [1] > [2]", 3, [3, 1, 2]),
    ("[3] > [1] > [2", 3, [3, 1, 2]),
    ("[Passage 3] > [Passage 1] > [Passage 2]", 3, [3, 1, 2]),
    # item numbers, counts and scores
    ("1. [3]\n2. [1]\n3. [2]", 3, [3, 1, 2]),
    ("1. [3] > 2. [1] > 3. [2]", 3, [3, 1, 2]),
    ("1) [3] 2) [1] 3) [2]", 3, [3, 1, 2]),
    ("- [3]\n- [1]", 3, [3, 1]),
    ("| 1 | [3] |\n| 2 | [1] |", 3, [3, 1]),
    ("1. **[3]** explains it better than [1].\n2. **[1]** is vague.", 3, [3, 1]),
    ("The top 2: [3] > [1]", 3, [3, 1]),
    ("The 2 best of 3 passages are [3] > [1]", 3, [3, 1]),
    ("1 > [1] > [3] > [2]", 3, [1, 3, 2]),
    ("[4] (score 5) > [2] (score 3)", 5, [4, 2]),
    ("[4] (0.95), [1] (0.9)", 5, [4, 1]),
    ("[4]: 0.95, [1]: 0.9", 5, [4, 1]),
    ("[4]: rank 1\n[1]: rank 2", 5, [4, 1]),
    ("[4] Glass > [1] Ice (see 3) > [2] Dew", 5, [4, 1, 2]),
    ("[-1] > [3] > [0.5] > [1]", 3, [3, 1]),
    # bare numbers
    ("3 > 1 > 2", 3, [3, 1, 2]),
    ("3 > 1 > 2.", 3, [3, 1, 2]),
    ("Ranking of the top 3: 3 > 1 > 2", 3, [3, 1, 2]),
    ("3, 1, 2", 3, [3, 1, 2]),
    ("Final ranking: 3, 1, 2", 3, [3, 1, 2]),
    ("3 1 2", 3, [3, 1, 2]),
    ("3\n1\n2", 3, [3, 1, 2]),
    ("3-1-2", 3, [3, 1, 2]),
    ("(3) > (1) > (2)", 3, [3, 1, 2]),
    ("1. 3\n2. 1\n3. 2", 3, [3, 1, 2]),
    ("1. 3 > 2. 1 > 3. 2", 3, [3, 1, 2]),
    ("- 3\n- 1\n- 2", 3, [3, 1, 2]),
    ("3 (0.9) > 1 (0.5) > 2 (0.1)", 3, [3, 1, 2]),
    ("Passage 3 > Passage 1 > Passage 2", 3, [3, 1, 2]),
    ("1. Passage 3: 5 dogs\n2. Passage 1: 2 cats", 3, [3, 1]),
    # JSON
    ("[3, 1, 2]", 3, [3, 1, 2]),
    ('["3", "1", "2"]', 3, [3, 1, 2]),
    ('["[3]", "[1]"]', 3, [3, 1]),
    ("[[3], [1], [2]]", 3, [3, 1, 2]),
    ('{"ranking": [3, 1, 2]}', 3, [3, 1, 2]),
    ('{"result": {"ranking": ["3", "1"]}, "scores": [0.9, 0.5]}', 3, [3, 1]),
    ('{"ranking": "[3] > [1] > [2]"}', 3, [3, 1, 2]),
    ('{"reasoning": "[1] is vague.", "ranking": [3, 1, 2]}', 3, [3, 1, 2]),
    ("```json\n[3, 1, 2]\n```", 3, [3, 1, 2]),
    ('Here it is:\n```json\n{"ranking": [3, 1, 2]}\n```', 3, [3, 1, 2]),
    ('Here it is: {"ranking": [3, 1, 2]}', 3, [3, 1, 2]),
    ("{'ranking': [3, 1, 2]}", 3, [3, 1, 2]),
    # prose around a ranking
    ("[1] is vague.\n[2] is wrong.\n[3] is good.\nRanking: [3] > [1] > [2]", 3, [3, 1, 2]),
    ("I rank [3] first, then [1], and [2] is last.", 3, [3, 1, 2]),
    ("[3] > [1] > [2]\n\n[3] explains it, [2] does not.", 3, [3, 1, 2]),
    ("[3] > [1] > ...", 3, [3, 1]),
    # ambiguous, or no ranking
    ("[1] > ... > [20]", 20, NOBODY),
    ("[1] > [2] > … > [20]", 20, NOBODY),
    ("[1], [2], etc., [20]", 20, NOBODY),
    ("[1] - [20]", 20, NOBODY),
    ("[1] to [20]", 20, NOBODY),
    ("[1-20]", 20, NOBODY),
    ("[1, 2, ..., 20]", 20, NOBODY),
    ("1 > 2 > ... > 20", 20, NOBODY),
    ("1-20", 20, NOBODY),
    ("[2] < [1] < [3]", 3, NOBODY),
    ("2 < 1 < 3", 3, NOBODY),
    ("20 passages are provided, so the ranking should be from 1 to 20.", 20, NOBODY),
    ("First [1] > [2] > [3], finally [3] > [1] > [2]", 3, NOBODY),
    ("[1]: vague\n[2]: wrong\n[3]: good\nRanking: [3], [1], [2]", 3, NOBODY),
    ("[1] > [2]\n[3] > [1]", 3, NOBODY),
    ("Passage [2] is best. [3] > [1]", 3, NOBODY),
    ("The best passage is [3].", 3, NOBODY),
    ("[3] does not answer the query.", 3, NOBODY),
    ("4 > [5] > [1]", 5, NOBODY),
    ("[1]: 3, [2]: 1, [3]: 2", 3, NOBODY),
    ("[1]: rank 3\n[2]: rank 1\n[3]: rank 2", 3, NOBODY),
    ("Passage 1: 3\nPassage 2: 2\nPassage 3: 1", 3, NOBODY),
    ("[1] (0.2), [2] (0.9)", 3, NOBODY),
    ("20", 20, NOBODY),
    ("| 1 | 3 |\n| 2 | 1 |", 3, NOBODY),
    ("3 1\n1 2\n2 3", 3, NOBODY),
    ("3: 0.9, 1: 0.5, 2: 0.1", 3, NOBODY),
    ("-1, 3, 2", 3, NOBODY),
    ('{"ranking": [3, 1, 2], "scores": [9, 5, 1]}', 20, NOBODY),
    ('{"ranking": [3, 1], "others": [2', 3, NOBODY),
    ('{"1": 3, "2": 1, "3": 2}', 3, NOBODY),
    ('[{"id": 3}, {"id": 1}]', 3, NOBODY),
    ("[0.9, 0.5, 0.1]", 3, NOBODY),
    ("[] > []", 3, NOBODY),
    ("3 passages were provided.", 3, NOBODY),
]


@pytest.mark.parametrize(("answer", "num_passages", "ranks"), ANSWERS)
def test_ranks_that_an_answer_names(answer: str, num_passages: int, ranks: list[int]) -> None:
    assert read_ranks(answer, num_passages) == ranks
    assert read_ranks(f"\n{answer}\n", num_passages) == ranks


@pytest.mark.parametrize(("answer", "num_passages", "ranks"), ANSWERS)
def test_every_format_reads_the_same_answers(answer: str, num_passages: int, ranks: list[int]) -> None:
    responses = {
        "plain": answer,
        "after_reasoning": f"[2] > [1], no.</think>{answer}",
        "reasoning": f"<think>[2] > [1], no.</think><answer>{answer}</answer>",
    }
    for answer_format, response in responses.items():
        judgment = parse(response, num_passages, answer_format)
        assert [position + 1 for position in judgment.order[: judgment.named]] == ranks
        assert judgment.status == (
            "no_answer" if not ranks else "complete" if judgment.named == num_passages else "repaired"
        )


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
def test_json_and_text_name_the_same(case: tuple[list[int], int]) -> None:
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
