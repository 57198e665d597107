"""Answers with the label of one passage: it comes first, and two labels are ambiguous."""

import pytest

from helpers.scripts import parse


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("B", "B"),
        (" b", "B"),
        ("Passage C", "C"),
        ("**[C]**.", "C"),
        ('"passage: A"', "A"),
        ("The most relevant is Passage B.", "B"),
        ("<think>Passage A or [C]?</think>\nB", "B"),
        ("Passage B, because Passage A is vague.", None),
        ("Passage D", None),
        ("A passage about glass", None),
        ("I cannot tell.", None),
        ("3", None),
        ("", None),
    ],
)
def test_the_best_label_may_be_a_letter(response: str, label: str | None) -> None:
    judgment = parse(response, 3, "best_label", identifiers="letters")
    first = "ABC".index(label) if label else 0
    assert judgment.order == (first, *(position for position in range(3) if position != first))
    assert (judgment.status, judgment.named) == (("complete", 1) if label else ("no_answer", 0))


@pytest.mark.parametrize(
    ("response", "finish_reason", "first", "status"),
    [
        ("<think>[1] or [2]?</think>\n<answer>[3]</answer>", "stop", 3, "complete"),
        ("<think>[1] or [2]?</think> <answer> 3 </answer>", "stop", 3, "complete"),
        ("<think>[1]</think><answer>document [2]</answer>", "stop", 2, "complete"),
        ("<think>[1]</think><answer>[2] > [1]</answer>", "stop", 1, "no_answer"),
        ("<think>[1]</think><answer>[21]</answer>", "stop", 1, "no_answer"),
        ("<think>[1]</think><answer>[2", "length", 1, "truncated"),
        ("<think>[3] seems best", "length", 1, "truncated"),
    ],
)
def test_labels_after_reasoning(response: str, finish_reason: str, first: int, status: str) -> None:
    judgment = parse(response, 20, "best_label_reasoning", finish_reason)
    assert (judgment.order[0] + 1, judgment.status) == (first, status)
    assert sorted(judgment.order) == list(range(20))
