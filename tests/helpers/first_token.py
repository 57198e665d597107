"""A scripted LLM that ranks by the first token. It reads the passages of `helpers.runs.query`."""

import re
from collections.abc import Callable

from corpus_reranker.types import Completion, SamplingParams

_PASSAGE = re.compile(r"^\[[A-Z]\] passage (\d+) of q(\d+)", re.MULTILINE)


def logprob(position: int, number: int) -> float:
    """The log-probability of passage `position` of query `number`."""
    return -((position * 7 + number * 3) % 10) / 2


def is_relevant(position: int, number: int) -> bool:
    """Whether the judgments call the passage relevant: mostly if its log-probability is high."""
    return logprob(position, number) > -1.5 or (position + number) % 6 == 0


def answers() -> Callable[[str, SamplingParams], Completion]:
    """Answers with the log-probabilities of the passages shown."""

    def answer(text: str, params: SamplingParams) -> Completion:
        found = [(int(position), int(number)) for position, number in _PASSAGE.findall(text)]
        return Completion("A", "length", 0, 1, tuple(logprob(*each) for each in found))

    return answer
