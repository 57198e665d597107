"""Passage identifiers in prompts and answers: [1], [2], ... or [A], [B], ..."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from corpus_reranker.answers.identifier_chains import IDENTIFIER_WORD
from corpus_reranker.answers.written_ranking import read_ranks

_LETTER_OR_DIGITS = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])|\d++[.)]?")


@dataclass(frozen=True)
class Identifiers(ABC):
    """A scheme that names passages by their 1-based rank in the prompt.

    Attributes:
        max_passages: The largest number of passages that can be named. None: no limit.
        max_single_character: The largest number of passages whose identifiers all have one character.
        citation: Matches an identifier in a passage or query; group 1 is the identifier without brackets.
        pattern: Regular expression of one identifier without brackets.
    """

    max_passages: ClassVar[int | None]
    max_single_character: ClassVar[int]
    citation: ClassVar[re.Pattern[str]]
    pattern: ClassVar[str]

    @abstractmethod
    def name(self, rank: int) -> str:
        """The identifier of the passage at 1-based `rank`, without brackets."""

    def names(self, num_passages: int) -> list[str]:
        """The identifiers of `num_passages` passages in the order shown."""
        return [self.name(rank) for rank in range(1, num_passages + 1)]

    def find_rank(self, text: str) -> int | None:
        """The 1-based rank that `text` names if it is one identifier: `[3]`, `Passage 3`, `3.`; else None."""
        match = _one_identifier(self.pattern).fullmatch(text)
        return self.rank(match[1].upper()) if match else None

    @abstractmethod
    def rank(self, name: str) -> int:
        """The 1-based rank of the passage with the identifier `name`, which `pattern` matches."""

    @abstractmethod
    def find_ranks(self, answer: str, num_passages: int) -> list[int]:
        """The ranks that `answer` names, as `written_ranking.read_ranks` reads it."""


class Numbers(Identifiers):
    """1, 2, 3, ..."""

    max_passages = None
    max_single_character = 9
    citation = re.compile(r"\[(\d+)\]")
    pattern = r"[0-9]{1,9}"

    def name(self, rank: int) -> str:
        return str(rank)

    def rank(self, name: str) -> int:
        return int(name)

    def find_ranks(self, answer: str, num_passages: int) -> list[int]:
        return read_ranks(answer, num_passages)


class Letters(Identifiers):
    """A, B, C, ... Z. Digits are not identifiers."""

    max_passages = 26
    max_single_character = 26
    citation = re.compile(r"\[([A-z]+)\]")
    """Byte-exact from FIRST: `_replace_number` in scripts/utils/rankllm.py of github.com/gangiswag/llm-reranker."""

    pattern = r"[A-Z]"

    def name(self, rank: int) -> str:
        return chr(ord("A") + rank - 1)

    def rank(self, name: str) -> int:
        return ord(name) - ord("A") + 1

    def find_ranks(self, answer: str, num_passages: int) -> list[int]:
        return read_ranks(_LETTER_OR_DIGITS.sub(_letter_to_rank, answer), num_passages)


NUMBERS = Numbers()

IDENTIFIERS: dict[str, Identifiers] = {"numbers": NUMBERS, "letters": Letters()}
"""Values of a prompt template's key `identifiers`."""


def _letter_to_rank(match: re.Match[str]) -> str:
    return str(ord(match[0]) - ord("A") + 1) if match[0].isalpha() else ""


@cache
def _one_identifier(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\W*+(?:{IDENTIFIER_WORD}\W*+)?+({pattern})\W*+", re.IGNORECASE)
