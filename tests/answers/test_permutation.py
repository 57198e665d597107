"""Answer parsers: the authors' order for well-formed answers, the input order without one, always a judgment."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpus_reranker.answers.base import Judgment
from corpus_reranker.answers.first_token import FirstTokenParser
from corpus_reranker.answers.permutation import apply_permutation
from corpus_reranker.answers.registry import ANSWER_PARSERS, create_answer_parser
from corpus_reranker.types import ANSWERED, Completion, WindowStatus
from helpers.scripts import parse

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "permutations.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))

SAME_ORDER = {
    "well_formed",
    "compact_separator",
    "comma_separator",
    "missing_ids",
    "duplicate_ids",
    "out_of_range_ids",
    "unclosed_answer",
    "two_answers",
    "text_after_answer",
    "unicode_digits",
    "huge_number",
}
INPUT_ORDER: dict[str, WindowStatus] = {
    "truncated_reasoning": "truncated",
    "empty": "no_answer",
    "prose": "no_answer",
    "no_tags": "no_answer",
    "empty_answer": "no_answer",
}

FRAGMENTS = (
    ["<think>", "</think>", "<answer>", "</answer>", "<THINK>", "</Answer>", "<answer", "think>"]
    + ["[", "]", ">", ">>", ",", "\n", " ", "[]", "[0]", "[-1]", "[²]", "[１]", "[٣]", "9" * 30, "\x00", "\ud800"]
    + [
        '{"ranking": ',
        "{",
        "}",
        '"',
        ": ",
        "```",
        "```json\n",
        "...",
        "…",
        " to ",
        " and ",
        "(",
        ")",
        "-",
        "<",
        "=",
        ". ",
    ]
    + [f"[{number}]" for number in range(1, 8)]
    + [str(number) for number in range(1, 30)]
)
FORMATS = st.sampled_from(sorted(ANSWER_PARSERS))
FINISH_REASONS = st.sampled_from(["stop", "length"])


def _ids(order: tuple[int, ...]) -> list[int]:
    return [position + 1 for position in order]


def test_golden_file_has_the_expected_kinds() -> None:
    assert len(CASES) == 72
    assert {case["kind"] for case in CASES} == SAME_ORDER | INPUT_ORDER.keys()


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] in SAME_ORDER], ids=lambda case: case["kind"])
def test_answers_give_the_order_of_the_authors_code(case: dict[str, Any]) -> None:
    judgment = parse(case["response"], case["num_passages"], "reasoning")
    assert _ids(judgment.order) == case["original_order"]
    assert judgment.status in ANSWERED
    if case["kind"] == "well_formed":
        assert judgment.status == "complete"


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] in INPUT_ORDER], ids=lambda case: case["kind"])
def test_response_without_an_answer_keeps_the_input_order(case: dict[str, Any]) -> None:
    judgment = parse(case["response"], case["num_passages"], "reasoning")
    assert judgment.order == tuple(range(case["num_passages"]))
    assert judgment.status == INPUT_ORDER[case["kind"]]


@pytest.mark.parametrize(
    ("response", "finish_reason", "ids", "status"),
    [
        ("<think>a</think><answer>[3] > [1", "length", [3, 1, 2], "repaired"),
        ("<think>a</think><answer>[3] > [1]", "length", [3, 1, 2], "repaired"),
        ("<think>a</think><answer>[3", "length", [1, 2, 3], "truncated"),
        ("<think>a</think><answer>", "length", [1, 2, 3], "truncated"),
        ("<think>a</think> so", "length", [1, 2, 3], "truncated"),
        ("<think>draft <answer>[3]</answer> but then", "stop", [1, 2, 3], "truncated"),
        ("<think>draft <answer>[3] > [2] > [1]</answer>", "stop", [3, 2, 1], "complete"),
        ("<think>draft <answer>[3] > [2] > [1]</answer>", "length", [1, 2, 3], "truncated"),
        ("reasoning of a prefilled tag [3]</think> <answer>[2]</answer>", "stop", [2, 1, 3], "repaired"),
        ("<answer>[2]</answer> or rather <answer>[3]</answer>", "stop", [3, 1, 2], "repaired"),
        ("<answer>[3] > [2] > [1]", "stop", [3, 2, 1], "complete"),
    ],
)
def test_answer_section_of_reasoning_responses(response: str, finish_reason: str, ids: list[int], status: str) -> None:
    judgment = parse(response, 3, "reasoning", finish_reason)
    assert (_ids(judgment.order), judgment.status) == (ids, status)


@pytest.mark.parametrize(
    ("response", "ids", "status"),
    [
        ("[3] > [1] > [2]", [3, 1, 2], "complete"),
        ("3 > 1 > 2", [3, 1, 2], "complete"),
        ("3] > [1] > [2]", [3, 1, 2], "complete"),
        ("3 > 1 > 2.", [3, 1, 2], "complete"),
        ("3, 1, 2", [3, 1, 2], "complete"),
        ("[3, 1, 2]", [3, 1, 2], "complete"),
        ("1. [3] > 2. [1] > 3. [2]", [3, 1, 2], "complete"),
        ("The 2 best of 3 passages: [3] > [1] > [2]", [3, 1, 2], "complete"),
        ("<think>[2] seems best, 2 > 1</think>\n[3] > [1] > [2]", [3, 1, 2], "complete"),
        ("<think>[2] seems best", [1, 2, 3], "truncated"),
        ("3 passages were provided.", [1, 2, 3], "no_answer"),
        ("[] > []", [1, 2, 3], "no_answer"),
    ],
)
def test_a_plain_response_is_parsed(response: str, ids: list[int], status: str) -> None:
    judgment = parse(response, 3, "plain")
    assert (_ids(judgment.order), judgment.status) == (ids, status)


def test_recorded_plain_responses(shared: Path) -> None:
    """1,500 recorded responses to windows of 20, with flags for the defects of each."""
    lines = (shared / "data" / "responses" / "recorded.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1500
    for line in lines:
        recorded = json.loads(line)
        judgment = parse(recorded["response"], recorded["num_passages"], "plain")
        assert sorted(judgment.order) == list(range(recorded["num_passages"]))
        ambiguous = recorded["response"].startswith("4 > [5]")  # [4] does not follow
        assert (judgment.status == "no_answer") == ("no_ids" in recorded["flags"] or ambiguous), recorded
        bare_head = re.match(r"\d+ > \[", recorded["response"])  # the flags count this number as an identifier
        if "dup" in recorded["flags"] and not bare_head:
            assert judgment.status == "repaired", recorded


@given(
    response=st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join)),
    num_passages=st.integers(1, 30),
    answer_format=FORMATS,
    finish_reason=FINISH_REASONS,
)
@example("<answer>" + "1" * 5000, 20, "reasoning", "stop")
def test_any_text_gives_a_permutation(response: str, num_passages: int, answer_format: str, finish_reason: str) -> None:
    judgment = parse(response, num_passages, answer_format, finish_reason)
    assert sorted(judgment.order) == list(range(num_passages))
    assert response.startswith(judgment.reasoning)
    if judgment.status not in ANSWERED:
        assert judgment.order == tuple(range(num_passages))
    if answer_format != "first_token":
        assert judgment.named is not None
        assert (judgment.named > 0) == (judgment.status in ANSWERED)
        assert (judgment.scores is not None) == (
            judgment.status in ANSWERED and create_answer_parser(answer_format).gives_scores
        )
        assert list(judgment.order[judgment.named :]) == sorted(judgment.order[judgment.named :])


@given(
    reasoning=st.text(st.characters(exclude_characters="<>")),
    order=st.permutations(range(7)),
    answer_format=st.sampled_from(["reasoning", "plain", "after_reasoning"]),
)
def test_identifiers_in_reasoning_are_ignored(reasoning: str, order: list[int], answer_format: str) -> None:
    ranking = " > ".join(f"[{position + 1}]" for position in order)
    answer = f"<answer>{ranking}</answer>" if answer_format == "reasoning" else ranking
    judgment = parse(f"<think>[2] > {reasoning} [1]</think>\n{answer}", 7, answer_format)
    assert (list(judgment.order), judgment.status) == (order, "complete")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("answer_format", sorted(ANSWER_PARSERS))
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "1",
            " ",
            "1 ",
            "[",
            "[ ",
            ">",
            "> ",
            "] ",
            "<think>",
            "</think>",
            "<answer>",
            "</think> ",
            "-",
            "=",
            "(",
            "(1",
        ),
        *(
            "1. ",
            "1, ",
            "1-",
            "1 > ",
            "[1] ",
            "[1]\n",
            "[1-",
            ".",
            "passage ",
            "passage 1 ",
            '{"a": ',
            "```",
            '"',
            "a\n",
        ),
    ],
)
def test_repetitive_responses_are_parsed_in_linear_time(unit: str, answer_format: str) -> None:
    """100,000 characters are ten times the length of 3,172 tokens. Backtracking would exceed the timeout."""
    for response in (unit * 100_000, f"[1{unit * 50_000}", f"<answer>{unit * 50_000}x"):
        parse(response[:100_000], 20, answer_format, "length")


@pytest.mark.parametrize(
    ("response", "finish_reason", "order", "status"),
    [
        ("[3] first? or [1] > [2]", "length", (0, 1, 2), "truncated"),  # <think> was in the prompt, and never ended
        ("[3] first? or [1] > [2]", "stop", (0, 1, 2), "no_answer"),
        ("[3] > [1], no.\n</think>\n\n[2] > [3] = [1]", "stop", (1, 2, 0), "complete"),
        ("analysis[3] > [1], no.assistantfinal[2] > [1] > [3]", "stop", (1, 0, 2), "complete"),
        ("final[2] > [1] > [3]", "stop", (1, 0, 2), "complete"),
        ("analysisThe final [3] > [1]", "stop", (0, 1, 2), "no_answer"),
    ],
)
def test_after_reasoning_reads_only_the_text_after_its_end(
    response: str, finish_reason: str, order: tuple[int, ...], status: str
) -> None:
    judgment = parse(response, 3, "after_reasoning", finish_reason)
    assert (judgment.order, judgment.status) == (order, status)


@pytest.mark.parametrize(
    ("response", "order", "status"),
    [
        ("[C] > [A] > [B]", (2, 0, 1), "complete"),
        ("C > A > B", (2, 0, 1), "complete"),
        ("A passage like [B] is best", (0, 1, 2), "no_answer"),
        ("1. C\n2. A\n3. B", (2, 0, 1), "complete"),
        ('{"ranking": ["C", "A", "B"]}', (2, 0, 1), "complete"),
        ("[Z] > [C] > [Cat]", (2, 0, 1), "repaired"),
        ("[3] > [1] > [2]", (0, 1, 2), "no_answer"),
    ],
)
def test_letters_name_passages_and_digits_do_not(response: str, order: tuple[int, ...], status: str) -> None:
    judgment = parse(response, 3, "plain", identifiers="letters")
    assert (judgment.order, judgment.status) == (order, status)


@given(st.lists(st.floats(max_value=0, allow_nan=False), min_size=1, max_size=26))
def test_first_token_logprobs_order_the_window(logprobs: list[float]) -> None:
    def judge(choice_logprobs: list[float]) -> Judgment:
        completion = Completion("A", "length", 100, 1, tuple(choice_logprobs))
        return FirstTokenParser().parse(completion, len(logprobs))

    judgment = judge(logprobs)
    assert [logprobs[position] for position in judgment.order] == sorted(logprobs, reverse=True)
    assert sorted(judgment.order) == list(range(len(logprobs)))
    assert judgment.status == "complete"
    for wrong in (logprobs[1:], [*logprobs[1:], float("nan")]):
        unanswered = judge(wrong)
        assert (unanswered.order, unanswered.status) == (tuple(range(len(logprobs))), "no_answer")


def test_apply_permutation_refuses_other_sequences() -> None:
    assert apply_permutation("abc", [2, 0, 1]) == ["c", "a", "b"]
    for wrong in ([0, 1], [0, 0, 1], [0, 1, 3], [0, 1, 2, 2]):
        with pytest.raises(ValueError, match="not a permutation"):
            apply_permutation("abc", wrong)
