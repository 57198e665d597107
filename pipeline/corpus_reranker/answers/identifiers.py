"""Passage identifiers in prompts and answers: [1], [2], ... or [A], [B], ..."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

_DIGITS = re.compile(r"\d+")
_PLAIN_IDENTIFIER = re.compile(
    r"\[\s*+(\d++)\s*+\]"  # [3]
    r"|(?<!\d)(\d++)\s*+\]?+\s*+(?=>)"  # 3 > or 3] >
    r"|(?<=>)\s*+\[?+\s*+(\d++)(?![.)]\s*+\[)"  # > 3, but not the item number of "> 2. [14]"
)
"""Possessive quantifiers keep matching linear in the length of the answer if a model repeats digits or spaces."""

_ONLY_IDENTIFIERS = re.compile(r"[\s\d,;>=\[\]().]*")
_LETTER_OR_DIGITS = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])|\d+")

_MAX_DIGITS = 9
"""No passage has a longer number, and int() raises for thousands of digits."""

_NO_PASSAGE = -1


@dataclass(frozen=True)
class Identifiers(ABC):
    """A scheme of passage identifiers by 1-based rank in the prompt.

    Attributes:
        max_passages: The largest number of passages that can be named. None: no limit.
        max_single_character: The largest number of passages whose identifiers all have one character.
        citation: Matches an identifier in a passage or query; group 1 is the identifier without brackets.
    """

    max_passages: ClassVar[int | None]
    max_single_character: ClassVar[int]
    citation: ClassVar[re.Pattern[str]]

    @abstractmethod
    def name(self, rank: int) -> str:
        """The identifier of the passage at 1-based `rank`, without brackets."""

    def names(self, num_passages: int) -> list[str]:
        """The identifiers of `num_passages` passages in the order shown."""
        return [self.name(rank) for rank in range(1, num_passages + 1)]

    @abstractmethod
    def find_ranks(self, answer: str) -> list[int]:
        """The ranks that `answer` names, in its order, including duplicates and out-of-range ranks.

        An identifier is in brackets or next to a ">". If the text is only identifiers and separators, all are read.
        """


class Numbers(Identifiers):
    """1, 2, 3, ..."""

    max_passages = None
    max_single_character = 9
    citation = re.compile(r"\[(\d+)\]")

    def name(self, rank: int) -> str:
        return str(rank)

    def find_ranks(self, answer: str) -> list[int]:
        found = [next(group for group in groups if group) for groups in _PLAIN_IDENTIFIER.findall(answer)]
        if found:
            return [_number(digits) for digits in found]
        return find_numbers(answer) if _ONLY_IDENTIFIERS.fullmatch(answer) else []


class Letters(Identifiers):
    """A, B, C, ... Z. Digits name no passage."""

    max_passages = 26
    max_single_character = 26
    citation = re.compile(r"\[([A-z]+)\]")
    """Byte-exact from FIRST: `_replace_number` in scripts/utils/rankllm.py of github.com/gangiswag/llm-reranker."""

    def name(self, rank: int) -> str:
        return chr(ord("A") + rank - 1)

    def find_ranks(self, answer: str) -> list[int]:
        return NUMBERS.find_ranks(_LETTER_OR_DIGITS.sub(_letter_to_rank, answer))


NUMBERS = Numbers()

IDENTIFIERS: dict[str, Identifiers] = {"numbers": NUMBERS, "letters": Letters()}
"""Values of a prompt template's key `identifiers`."""


def find_numbers(text: str) -> list[int]:
    """Every run of digits in `text`."""
    return [_number(digits) for digits in _DIGITS.findall(text)]


def _letter_to_rank(match: re.Match[str]) -> str:
    return str(ord(match[0]) - ord("A") + 1) if match[0].isalpha() else ""


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else _NO_PASSAGE
