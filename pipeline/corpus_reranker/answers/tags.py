"""The tags around reasoning and answers, matched in any case."""

import re

THINK_OPEN = re.compile("<think>", re.IGNORECASE)
THINK_CLOSE = re.compile("</think>", re.IGNORECASE)
ANSWER_OPEN = re.compile("<answer>", re.IGNORECASE)
ANSWER_CLOSE = re.compile("</answer>", re.IGNORECASE)

ANSWER_END = "</answer>"
"""Stop string of a format with an answer section: nothing after it is read."""

CLOSE_REASONING = "\n</think>\n<answer>"
"""Appended to reasoning that is cut, so that the model writes its ranking next."""


def last_end(pattern: re.Pattern[str], text: str) -> int | None:
    """Where the last match of `pattern` in `text` ends. None without a match."""
    return max((match.end() for match in pattern.finditer(text)), default=None)


def has_open_reasoning(response: str) -> bool:
    """Whether `response` begins reasoning and never ends it."""
    return THINK_OPEN.search(response) is not None and THINK_CLOSE.search(response) is None
