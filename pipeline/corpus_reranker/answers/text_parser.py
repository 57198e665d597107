"""Base of the parsers of written rankings: only the identifiers in the answer section are read."""

import re
from abc import abstractmethod
from typing import TypeAlias

from corpus_reranker.answers.base import AnswerParser, Judgment
from corpus_reranker.answers.permutation import complete_permutation
from corpus_reranker.answers.tags import has_open_reasoning
from corpus_reranker.types import Completion

Section: TypeAlias = tuple[int, int]
"""Start and end of a part of a text, end exclusive."""

_CUT_IDENTIFIER = re.compile(r"(?<!\d)\d++\Z")


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
            return Judgment(input_order, "truncated" if truncated else "no_answer", response)
        start, end = section
        answer, reasoning = response[start:end], response[:start]
        if at_max_tokens and end == len(response):
            answer = _CUT_IDENTIFIER.sub("", answer)  # "[1" can be the beginning of "[12]"
        order, exact = complete_permutation(self.find_ranks(answer), num_passages)
        if order is None:
            return Judgment(input_order, "truncated" if at_max_tokens else "no_answer", reasoning)
        return Judgment(order, "complete" if exact else "repaired", reasoning)

    @abstractmethod
    def answer_section(self, completion: Completion) -> Section | None:
        """The part of the completion's text that holds the ranking. None if it has none."""

    def find_ranks(self, answer: str) -> list[int]:
        """The 1-based ranks that the answer section names, in its order."""
        return self.identifiers.find_ranks(answer)
