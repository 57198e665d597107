"""Answer formats `stated_score` and `stated_score_reasoning`: the score of one passage, as a number."""

import re
from collections.abc import Mapping

from corpus_reranker.answers.plain import PlainParser
from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.answers.score_parser import ScoreParser

_SCALE = re.compile(r"(?:/|\bout of\b)\s*+\d++", re.IGNORECASE)
"""The end of a scale after the score: `7/10`, `7 out of 10`."""

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,9}(?:\.\d{1,9})?(?!\w|\.\d)")


class _StatedScore(ScoreParser):
    """Reads the only number of the answer. An answer with two different numbers is ambiguous."""

    @property
    def max_window(self) -> int:
        return 1

    def read_scores(self, answer: str, num_passages: int) -> Mapping[int, float]:
        numbers = {float(number) for number in _NUMBER.findall(_SCALE.sub("", answer))}
        return {1: numbers.pop()} if len(numbers) == 1 == num_passages else {}


class StatedScoreParser(_StatedScore, PlainParser):
    """Reads the whole text, or the text after the reasoning."""


class ReasonedStatedScoreParser(_StatedScore, ReasoningParser):
    """Reads the answer section after the reasoning: `<think>...</think> <answer>7</answer>`."""
