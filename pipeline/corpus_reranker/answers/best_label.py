"""Answer formats `best_label` and `best_label_reasoning`: the label of the most relevant passage of the window.

Setwise and pairwise prompts ask for one label (Zhuang et al., arXiv 2310.09497; Qin et al., arXiv 2306.17563).
"""

import re
from collections.abc import Sequence
from functools import cache

from corpus_reranker.answers.permutation import Permutation, complete_permutation
from corpus_reranker.answers.plain import PlainParser
from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.answers.text_parser import Reading, TextParser

_WORD = r"(?:passage|document|doc)"
"""Words that models write before a label, as in `Passage A`."""


class _LabelReader(TextParser):
    """The labeled passage comes first, and the others follow in input order. An answer with two labels is ambiguous."""

    can_force = False

    def read_answer(self, answer: str, num_passages: int) -> Reading:
        """Read the label: the whole answer, or the only label in brackets or after a word such as `Passage`."""
        if (rank := self.identifiers.find_rank(answer)) is not None:
            return Reading([rank])
        labels = {first or second for first, second in _named(self.identifiers.pattern).findall(answer)}
        return Reading([self.identifiers.rank(label) for label in labels] if len(labels) == 1 else [])

    def complete(self, ranks: Sequence[int], num_passages: int) -> Permutation:
        permutation = complete_permutation(ranks, num_passages)
        return Permutation(permutation.order, permutation.named, exact=permutation.named == 1)


class BestLabelParser(_LabelReader, PlainParser):
    """Reads a label from the whole text, or from the text after the reasoning."""


class ReasonedBestLabelParser(_LabelReader, ReasoningParser):
    """Reads a label from the answer section after the reasoning: `<think>...</think> <answer>[3]</answer>`."""


@cache
def _named(pattern: str) -> re.Pattern[str]:
    """Matches a label in brackets (group 1) or after a word (group 2)."""
    return re.compile(rf"\[\s*+(?i:{_WORD}\s*+)?+({pattern})\s*+\]|\b(?i:{_WORD})\s++[\[(\"'*]*+({pattern})\b")
