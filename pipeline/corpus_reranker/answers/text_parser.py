"""Base of the parsers of written answers: only the identifiers in the answer section are read."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from corpus_reranker.answers.base import AnswerParser, Judgment
from corpus_reranker.answers.permutation import Permutation, complete_permutation, count_from_one
from corpus_reranker.answers.tags import has_open_reasoning
from corpus_reranker.types import AnswerFlag, Completion, WindowStatus

Section: TypeAlias = tuple[int, int]
"""Start and end of a part of a text, end exclusive."""

_CUT_IDENTIFIER = re.compile(r"(?<!\d)\d++\Z")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a parser reads in an answer section: 1-based ranks in the answer's order, as it names them."""

    ranks: Sequence[int]
    flags: tuple[AnswerFlag, ...] = ()


class TextParser(AnswerParser):
    """Parses a ranking such as `[2] > [1]` from the answer section. Digits outside it are ignored.

    A response without an answer section keeps the input order, unlike in ReasonRank's code. Its status is `truncated`
    if its reasoning never ends or generation reached max_tokens, else `no_answer`.
    """

    def parse(self, completion: Completion, num_passages: int) -> Judgment:
        response, at_max_tokens = completion.text, completion.finish_reason == "length"
        input_order = tuple(range(num_passages))
        section = self.answer_section(completion)
        if section is None:
            truncated = at_max_tokens or has_open_reasoning(response)
            return Judgment(input_order, "truncated" if truncated else "no_answer", response, named=0)
        start, end = section
        answer, reasoning = response[start:end], response[:start]
        if at_max_tokens and end == len(response):
            answer = _CUT_IDENTIFIER.sub("", answer)  # "[1" can be the beginning of "[12]"
        return replace(self.judge(answer, num_passages, at_max_tokens), reasoning=reasoning)

    @abstractmethod
    def answer_section(self, completion: Completion) -> Section | None:
        """The part of the completion's text that holds the ranking. None: there is no such part."""

    def judge(self, answer: str, num_passages: int, at_max_tokens: bool) -> Judgment:
        """Judge the answer section. With `at_max_tokens`, generation reached max_tokens, and the answer may be cut."""
        reading = self.read_answer(answer, num_passages)
        permutation = self.complete(reading.ranks, num_passages)
        status: WindowStatus = "complete" if permutation.exact else "repaired"
        if not permutation.named:
            status = "truncated" if at_max_tokens else "no_answer"
        return Judgment(permutation.order, status, named=permutation.named, flags=reading.flags)

    def complete(self, ranks: Sequence[int], num_passages: int) -> Permutation:
        """The order that an answer with these ranks gives, and whether it is a complete answer of this format."""
        return complete_permutation(ranks, num_passages)

    def read_answer(self, answer: str, num_passages: int) -> Reading:
        """Read the answer section: the identifiers that it names, counted from 1 or from 0."""
        ranks = self.identifiers.find_ranks(answer, num_passages)
        counted = count_from_one(ranks, num_passages)
        return Reading(counted, () if counted == ranks else ("zero_based",))
