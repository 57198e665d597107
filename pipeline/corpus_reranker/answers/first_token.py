"""Answer format `first_token`: passages are ordered by the log-probability of their identifiers as first token.

FIRST (Reddy et al. 2024, arXiv 2406.15657): one token replaces a written ranking. The text is not read.
"""

import math

from corpus_reranker.answers.base import AnswerParser, Judgment
from corpus_reranker.types import Completion


class FirstTokenParser(AnswerParser):
    """Passages with equal log-probabilities keep their input order."""

    max_tokens = 1
    needs_choice_logprobs = True
    gives_scores = True

    @property
    def max_window(self) -> int:
        """An identifier must be one token: one character."""
        return self.identifiers.max_single_character

    def parse(self, completion: Completion, num_passages: int) -> Judgment:
        """Order the passages by log-probability. The status is `no_answer` unless each passage has one."""
        logprobs = completion.choice_logprobs
        if len(logprobs) != num_passages or any(math.isnan(logprob) for logprob in logprobs):
            return Judgment(tuple(range(num_passages)), "no_answer", named=0)
        order = sorted(range(num_passages), key=lambda position: -logprobs[position])
        return Judgment(tuple(order), "complete", scores=tuple(logprobs), named=num_passages)
