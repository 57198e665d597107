"""Answers with scores: stated numbers, JSON, and the logit of a yes against a no."""

import math
from collections.abc import Sequence

import pytest

from corpus_reranker.answers.registry import create_answer_parser
from corpus_reranker.types import Completion, Prompt, SamplingParams
from helpers.scripts import SAMPLING, parse


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("7", 7.0),
        ("Score: 7.5", 7.5),
        ("7/10", 7.0),
        ("8 out of 10.", 8.0),
        ("-1", -1.0),
        ('{"score": 7}', 7.0),
        ("<think>Perhaps 3.</think> 9", 9.0),
        ("7 or 8", None),
        ("between 7-8", None),
        ("no idea", None),
        ("1" * 30, None),
    ],
)
def test_a_stated_score_is_read(response: str, score: float | None) -> None:
    judgment = parse(response, 1, "stated_score")
    assert judgment.scores == (None if score is None else (score,))
    assert judgment.status == ("no_answer" if score is None else "complete")


@pytest.mark.parametrize(
    ("response", "finish_reason", "score", "status"),
    [
        ("<think>10?</think><answer>7</answer>", "stop", 7.0, "complete"),
        ("<think>10?</think><answer>1", "length", None, "truncated"),  # it can be the beginning of 10
        ("<think>10?", "length", None, "truncated"),
        ("7", "stop", None, "no_answer"),
    ],
)
def test_stated_scores_after_reasoning(response: str, finish_reason: str, score: float | None, status: str) -> None:
    judgment = parse(response, 1, "stated_score_reasoning", finish_reason)
    assert (judgment.scores, judgment.status) == (None if score is None else (score,), status)


@pytest.mark.parametrize(
    ("answer", "scores", "status"),
    [
        ('{"[1]": 5, "[2]": 3, "[3]": 8}', (5, 3, 8), "complete"),
        ('\n```json\n{"[1]": 5, "[2]": 3, "[3]": 8}\n```\n', (5, 3, 8), "complete"),
        ('{{"[1]": 5, "[2]": 3, "[3]": 8}}', (5, 3, 8), "complete"),
        ('{"[1]": 5, "[2]]": 3, "[3]": 8} as explained above', (5, 3, 8), "complete"),
        ('{"1": 5, "Passage 2": 3.5, "[3]": 8}', (5, 3.5, 8), "complete"),
        ('For example {"[1]": 1}. {"[1]": 5, "[2]": 3, "[3]": 8}', (5, 3, 8), "complete"),
        ('{"[1]": 5, "[3]": 8}', (5, None, 8), "repaired"),
        ('{"[1]": 5, "[2]": 3, "[3]": 8, "[4]": 9}', (5, 3, 8), "repaired"),
        ('{"[1]": 5, "[2]": "high", "[3]": NaN}', (5, None, None), "repaired"),
        ('{"[1]": 5, "1": 4}', None, "no_answer"),
        ('{"[1]": 5, "[2]": 3, "[3]": 8} {"[1]": 5, "1": 4}', None, "no_answer"),
        ('{"[1]": 5, "[2]": 3', None, "no_answer"),
        ('{"[1]": True}', None, "no_answer"),
        ('{"[1]": 1e999, "[2]": 3}', None, "no_answer"),
        ('{"[1]": 1' + "0" * 400 + "}", None, "no_answer"),
        ("[1]: 5, [2]: 3", None, "no_answer"),
        ("{" * 5000, None, "no_answer"),
    ],
)
def test_json_scores_are_parsed_and_order_the_passages(
    answer: str, scores: Sequence[float | None] | None, status: str
) -> None:
    judgment = parse(f"<reason>[2] is best.</reason>\n<answer>{answer}</answer>", 3, "json_scores")
    assert (judgment.scores, judgment.status) == (scores, status)
    if scores:
        assert [scores[position] or -1 for position in judgment.order] == sorted(
            (s or -1 for s in scores), reverse=True
        )


def yes_no(*logprobs: float, num_passages: int = 1) -> tuple[float | None, ...] | None:
    return create_answer_parser("yes_no").parse(Completion("yes", "length", 9, 1, logprobs), num_passages).scores


def test_yes_no_scores_are_logits() -> None:
    scores = yes_no(-0.1, -2.4)
    assert scores is not None
    assert scores[0] == pytest.approx(2.3)
    p_yes = math.exp(-0.1) / (math.exp(-0.1) + math.exp(-2.4))  # as in qwen3_reranker_model.py and rank1.py
    assert 1 / (1 + math.exp(-2.3)) == pytest.approx(p_yes)
    for without_a_score in (yes_no(), yes_no(-0.1), yes_no(-0.1, -math.inf), yes_no(-0.1, -2.4, num_passages=2)):
        assert without_a_score is None


class Reasoner:
    """An engine that reasons, then answers one token; it records its requests."""

    def __init__(self, reasoning: str, finish_reason: str = "stop") -> None:
        self.requests: list[tuple[Prompt, SamplingParams]] = []
        self._reasoning = Completion(reasoning, finish_reason, 5, 40)

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requests.append((prompt, params))
        return Completion(" true", "length", 9, 1, (-0.1, -3.0)) if prompt.choices else self._reasoning


@pytest.mark.parametrize(
    ("reasoning", "finish_reason", "continued"),
    [
        ("It fits. </think>", "stop", "It fits. </think>"),
        ("It fits. </think> true", "stop", "It fits. </think>"),
        ("It fits. But what", "length", "\nIt fits.\n</think>"),  # _fix_incomplete_responses in rank1.py
        ("What", "length", "\nWhat\n</think>"),
    ],
)
async def test_the_logit_after_reasoning_takes_a_second_request(
    reasoning: str, finish_reason: str, continued: str
) -> None:
    engine, parser = Reasoner(reasoning, finish_reason), create_answer_parser("yes_no_reasoning")
    generate = parser.extend(engine, lambda text: tuple(text.encode()))
    prompt = Prompt("<think>", (1,), choices=(3, 4))
    completion = await generate(prompt, SAMPLING)
    (first, first_params), (second, second_params) = engine.requests
    assert (first.text, first.choices, first_params.max_tokens) == ("<think>", (), SAMPLING.max_tokens - 1)
    assert (second.text, second.choices, second_params.max_tokens) == (f"<think>{continued}", (3, 4), 1)
    assert second.token_ids == tuple(second.text.encode())
    assert (completion.prompt_tokens, completion.output_tokens) == (14, 41)
    judgment = parser.parse(completion, 1)
    assert (judgment.status, judgment.reasoning) == ("complete", continued)
    assert judgment.scores == pytest.approx((2.9,))
    assert completion.finish_reason == ("stop" if finish_reason == "stop" else "capped")
