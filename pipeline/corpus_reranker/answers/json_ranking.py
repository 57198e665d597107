"""Read a ranking in JSON: `[3, 1, 2]`, `["3", "1", "2"]`, `{"ranking": [3, 1, 2]}`, also in a code fence."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import Any

from corpus_reranker.answers.identifier_chains import IDENTIFIER_WORD, find_numbers

_FENCE = re.compile(r"```(?:json)?\s*+(.*?)```", re.DOTALL | re.IGNORECASE)
_LIST_OF_KEY = re.compile(r"[\"']\s*+:\s*+\[")
_IDENTIFIER = re.compile(rf"\[?\s*+(?:{IDENTIFIER_WORD})?+\d++\s*+\]?", re.IGNORECASE)

_ID_KEY = re.compile(r"(?:passage|document|doc|identifier|id)(?:[ _-]?(?:id|identifier|number))?", re.IGNORECASE)
_RANK_KEY = re.compile(r"rank|position", re.IGNORECASE)
_SCORE_KEY = re.compile(r"(?:relevance[ _-]?)?score|relevance", re.IGNORECASE)


def read_json(answer: str, read_text: Callable[[str], list[int]]) -> list[int] | None:
    """The ranks of an answer that is JSON, or that holds one JSON object or fenced value.

    Args:
        answer: The answer section.
        read_text: Reads a ranking that is a string, such as that of `{"ranking": "[3] > [1]"}`.

    Returns:
        None if the answer is not JSON. Empty if the JSON does not hold exactly one ranking.
    """
    for text in _json_texts(answer):
        value = _parse(text)
        if isinstance(value, list | dict):
            return _only([value], read_text)
    return [] if len(_LIST_OF_KEY.findall(answer)) > 1 else None


def _json_texts(answer: str) -> Iterator[str]:
    yield answer
    fenced = _FENCE.findall(answer)
    if len(fenced) == 1:
        yield fenced[0]
    yield answer[answer.find("{") : answer.rfind("}") + 1]


def _parse(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _only(values: list[Any], read_text: Callable[[str], list[int]]) -> list[int]:
    """The only ranking among `values` and the values of their objects. Lists are preferred to strings."""
    lists, texts = [], []
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list) and value:
            lists.append(value)
        elif isinstance(value, str):
            texts.append(value)
    ranked = [ranks for ranks in map(_ranks, lists) if ranks] or [ranks for ranks in map(read_text, texts) if ranks]
    return ranked[0] if len(ranked) == 1 else []


def _ranks(values: list[Any]) -> list[int]:
    """The ranks in a list, or in a list of lists or objects; empty if one of the values is not an identifier."""
    if values and all(isinstance(value, dict) for value in values):
        values = _identifiers(values)
    ranks: list[int] = []
    for value in chain.from_iterable(each if isinstance(each, list) else [each] for each in values):
        if isinstance(value, int) and not isinstance(value, bool):
            ranks.append(value)
        elif isinstance(value, str) and _IDENTIFIER.fullmatch(value.strip()):
            ranks += find_numbers(value)
        else:
            return []
    return ranks


def _identifiers(items: list[dict[str, Any]]) -> list[Any]:
    """The identifier of each object. Empty if an object has none or two, or if ranks or scores give another order."""
    ids = [_values(item, _ID_KEY) for item in items]
    ranks = [value for item in items for value in _values(item, _RANK_KEY)]
    scores = [value for item in items for value in _values(item, _SCORE_KEY)]
    if any(len(found) != 1 for found in ids) or not all(isinstance(each, int | float) for each in [*ranks, *scores]):
        return []
    in_order = all(low < high for low, high in pairwise(ranks)) and all(a >= b for a, b in pairwise(scores))
    return [identifier for (identifier,) in ids] if in_order else []


def _values(item: dict[str, Any], key: re.Pattern[str]) -> list[Any]:
    return [value for name, value in item.items() if key.fullmatch(name)]
