"""From a completion's text to the order of a window, and from that order to the candidates' new order.

Only the answer section is read: digits in a chain of thought, or in prose around a ranking, rank nothing.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from corpus_reranker.types import WindowStatus

T = TypeVar("T")

AnswerFormat: TypeAlias = Literal["reasoning", "plain", "after_reasoning", "first_token"]
"""reasoning: `<think>...</think> <answer>[2] > [1]</answer>`. plain: the ranking alone, after thoughts if any.
after_thoughts: the ranking after thoughts that must have ended, for models whose prompt opens them. first_token: by
the log-probabilities of the identifiers as the first token; nothing is read from the text."""

Identifiers: TypeAlias = Literal["numbers", "letters"]
"""How a passage is named: [1], [2], ... or [A], [B], ... (at most 26)."""

THINK_OPEN = re.compile("<think>", re.IGNORECASE)
THINK_CLOSE = re.compile("</think>", re.IGNORECASE)
_THINK_CLOSE_THEN_ANSWER = re.compile(r"</think>\s*<answer>", re.IGNORECASE)
_THOUGHTS_END = re.compile(r"</think>|(?:\A|assistant)final", re.IGNORECASE)
"""gpt-oss ends its thoughts with `<|end|><|start|>assistant<|channel|>final<|message|>`, of which vLLM's text has the
words. Its prompt template makes them harmless in passages."""
ANSWER_OPEN = re.compile("<answer>", re.IGNORECASE)
_ANSWER_CLOSE = re.compile("</answer>", re.IGNORECASE)

_DIGITS = re.compile(r"\d+")
_PLAIN_IDENTIFIER = re.compile(
    r"\[\s*+(\d++)\s*+\]"  # [3]
    r"|(?<!\d)(\d++)\s*+\]?+\s*+(?=>)"  # 3 > or 3] >
    r"|(?<=>)\s*+\[?+\s*+(\d++)(?![.)]\s*+\[)"  # > 3, but not the item number of "> 2. [14]"
)
"""Possessive, so that a model stuck on digits or blanks costs time linear in its answer."""

_ONLY_IDENTIFIERS = re.compile(r"[\s\d,;>=\[\]().]*")
_CUT_IDENTIFIER = re.compile(r"(?<!\d)\d++\Z")

_LETTER_OR_DIGITS = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])|\d+")

_MAX_IDENTIFIER_DIGITS = 9
"""Longer runs of digits name no passage; int() of thousands of digits raises."""


@dataclass(frozen=True, slots=True)
class Permutation:
    """`order` holds 0-based positions of the window, each exactly once. `reasoning` is the text before the answer."""

    order: tuple[int, ...]
    status: WindowStatus
    reasoning: str


def parse_permutation(
    response: str,
    num_passages: int,
    answer_format: AnswerFormat,
    finish_reason: str | None = "stop",
    identifiers: Identifiers = "numbers",
) -> Permutation:
    """Read the order of a window of `num_passages` from a completion's text. Never raises.

    Identifiers are kept once each in the order they come, those out of range are dropped, passages not named
    follow in input order (`receive_permutation` of ReasonRank's rerank/rankllm.py). Unlike that code, a response
    without an answer section keeps the input order: status `truncated` where the reasoning was never closed or
    generation ran out of tokens, `no_answer` otherwise.
    """
    input_order = tuple(range(num_passages))
    section = _answer_section(response, answer_format, finish_reason)
    if section is None:
        never_answered = finish_reason == "length" or has_open_reasoning(response)
        return Permutation(input_order, "truncated" if never_answered else "no_answer", response)
    start, end = section
    answer, reasoning = response[start:end], response[:start]
    if finish_reason == "length" and end == len(response):
        answer = _CUT_IDENTIFIER.sub("", answer)  # "[1" may have been going to be "[12]"
    if identifiers == "letters":
        numbers = _plain_numbers(_LETTER_OR_DIGITS.sub(_letter_as_number, answer))
    else:
        numbers = _numbers(answer) if answer_format == "reasoning" else _plain_numbers(answer)
    named = [number - 1 for number in numbers if 1 <= number <= num_passages]
    if not named:
        status: WindowStatus = "truncated" if finish_reason == "length" else "no_answer"
        return Permutation(input_order, status, reasoning)
    order = tuple(dict.fromkeys([*named, *input_order]))
    exact = len(numbers) == num_passages == len(set(named))
    return Permutation(order, "complete" if exact else "repaired", reasoning)


def identifier_names(num_passages: int, identifiers: Identifiers) -> list[str]:
    """What the passages of a window are called, in the order shown."""
    if identifiers == "letters":
        return [chr(ord("A") + position) for position in range(num_passages)]
    return [str(position + 1) for position in range(num_passages)]


def order_by_logprobs(logprobs: Sequence[float], num_passages: int) -> Permutation:
    """The order of a window whose passages' identifiers have these log-probabilities as the first token.

    FIRST (Reddy et al. 2024, arXiv 2406.15657): one token instead of a ranking written out. Equal ones keep their
    input order. Status `no_answer` unless there is one number for each passage.
    """
    if len(logprobs) != num_passages or any(math.isnan(logprob) for logprob in logprobs):
        return Permutation(tuple(range(num_passages)), "no_answer", "")
    order = sorted(range(num_passages), key=lambda position: -logprobs[position])
    return Permutation(tuple(order), "complete", "")


def apply_permutation(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """`items` in a new order. Raises ValueError unless `order` names every position exactly once."""
    if sorted(order) != list(range(len(items))):
        raise ValueError(f"not a permutation of {len(items)} positions: {list(order)[:30]}")
    return [items[position] for position in order]


def _answer_section(response: str, answer_format: AnswerFormat, finish_reason: str | None) -> tuple[int, int] | None:
    """Start and end of the text that holds the ranking, None if the response has none."""
    if answer_format == "first_token":
        return None
    if answer_format == "after_reasoning":
        end = max((match.end() for match in _THOUGHTS_END.finditer(response)), default=None)
        return None if end is None else (end, len(response))
    opening_tag = THINK_OPEN.search(response)
    reasoning_end = max((match.end() for match in THINK_CLOSE.finditer(response)), default=None)
    if answer_format == "plain":
        if opening_tag and reasoning_end is None:
            return None
        return reasoning_end or 0, len(response)
    if opening_tag and (opening := _THINK_CLOSE_THEN_ANSWER.search(response, opening_tag.end())):
        start = opening.end()
    else:
        openings = [match.end() for match in ANSWER_OPEN.finditer(response, reasoning_end or 0)]
        if not openings:
            return None
        start = openings[-1]
        if has_open_reasoning(response) and not _closes_response(response, finish_reason):
            return None
    closing = _ANSWER_CLOSE.search(response, start)
    return start, closing.start() if closing else len(response)


def has_open_reasoning(response: str) -> bool:
    """Whether the response began to think and did not end it."""
    return THINK_OPEN.search(response) is not None and THINK_CLOSE.search(response) is None


def _closes_response(response: str, finish_reason: str | None) -> bool:
    """A model that forgets `</think>` but ends on `</answer>` has answered; a draft inside its thoughts has not."""
    return finish_reason != "length" and response.rstrip().lower().endswith("</answer>")


def _numbers(answer: str) -> list[int]:
    return [_number(digits) for digits in _DIGITS.findall(answer)]


def _plain_numbers(answer: str) -> list[int]:
    """Without tags an identifier is bracketed or beside a ">", unless the text holds nothing but numbers."""
    found = [next(group for group in groups if group) for groups in _PLAIN_IDENTIFIER.findall(answer)]
    if found:
        return [_number(digits) for digits in found]
    return _numbers(answer) if _ONLY_IDENTIFIERS.fullmatch(answer) else []


def _letter_as_number(match: re.Match[str]) -> str:
    """A is 1. Digits name no passage where letters do."""
    return str(ord(match[0]) - ord("A") + 1) if match[0].isalpha() else ""


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_IDENTIFIER_DIGITS else -1
