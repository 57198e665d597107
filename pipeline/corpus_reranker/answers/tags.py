"""The tags around reasoning and answers, matched in any case."""

import re

THINK_OPEN = re.compile("<think>", re.IGNORECASE)
THINK_CLOSE = re.compile("</think>", re.IGNORECASE)
ANSWER_OPEN = re.compile("<answer>", re.IGNORECASE)
ANSWER_CLOSE = re.compile("</answer>", re.IGNORECASE)

ANSWER_END = "</answer>"
"""Stop string of formats with an answer section: the parser reads nothing after it."""

CLOSE_REASONING = "\n</think>\n<answer>"
"""Appended to truncated reasoning, so that the model writes its ranking next."""


def last_end(pattern: re.Pattern[str], text: str) -> int | None:
    """The end of the last match of `pattern` in `text`; None if there is no match."""
    return max((match.end() for match in pattern.finditer(text)), default=None)


def has_open_reasoning(response: str) -> bool:
    """Whether `response` opens reasoning and does not close it."""
    return THINK_OPEN.search(response) is not None and THINK_CLOSE.search(response) is None
