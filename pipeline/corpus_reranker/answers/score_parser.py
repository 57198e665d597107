"""Base of the parsers of stated scores: the answer section gives each passage a number."""

import math
from abc import abstractmethod
from collections.abc import Mapping

from corpus_reranker.answers.base import Judgment
from corpus_reranker.answers.text_parser import TextParser
from corpus_reranker.types import WindowStatus


class ScoreParser(TextParser):
    """Passages with equal scores keep their input order. Passages without a score follow in input order."""

    gives_scores = True
    can_force = False

    def judge(self, answer: str, num_passages: int, at_max_tokens: bool) -> Judgment:
        found = self.read_scores(answer, num_passages)
        scores = tuple(found.get(rank) for rank in range(1, num_passages + 1))
        named = num_passages - scores.count(None)
        if not named:
            status: WindowStatus = "truncated" if at_max_tokens else "no_answer"
            return Judgment(tuple(range(num_passages)), status, named=0)
        order = sorted(range(num_passages), key=lambda position: -_value(scores[position]))
        status = "complete" if named == num_passages == len(found) else "repaired"
        return Judgment(tuple(order), status, scores=scores, named=named)

    @abstractmethod
    def read_scores(self, answer: str, num_passages: int) -> Mapping[int, float]:
        """The scores that the answer section states, by 1-based rank. Empty if it states none, or is ambiguous."""


def _value(score: float | None) -> float:
    return -math.inf if score is None else score
