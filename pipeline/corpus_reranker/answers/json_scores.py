"""Answer format `json_scores`: `<answer>{"[1]": 5, "[2]": 3}</answer>`, as GroupRank (arXiv 2511.11653) writes it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.answers.score_parser import ScoreParser

_MAX_OBJECTS = 32
"""An answer has one object. Braces in the text before it are also tried."""

_MAX_SCORE = 1e9
"""A larger number is not a score. A float cannot hold every integer."""

_DECODER = json.JSONDecoder(object_pairs_hook=list, parse_constant=lambda name: None)
"""Decodes objects as lists of pairs, so that duplicate keys are seen."""


class JsonScoresParser(ScoreParser, ReasoningParser):
    """Reads the scores of the last JSON object in the answer section. Fences and text around it are ignored.

    A passage with two different scores makes the answer ambiguous. An object that is cut off has no scores.
    """

    def read_scores(self, answer: str, num_passages: int) -> Mapping[int, float]:
        found = [scores for scores in map(self._scores, _objects(answer)) if scores is not None]
        return found[-1] if found else {}

    def _scores(self, pairs: list[tuple[str, Any]]) -> dict[int, float] | None:
        """The scores in an object, empty if it is ambiguous; None if it has none."""
        scores: dict[int, float] = {}
        for key, value in pairs:
            rank = self.identifiers.find_rank(key)
            if rank is None or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if abs(value) > _MAX_SCORE:
                return {}
            if scores.setdefault(rank, float(value)) != value:
                return {}
        return scores or None


def _objects(answer: str) -> Iterator[list[tuple[str, Any]]]:
    """The outermost JSON objects in a text."""
    start = answer.find("{")
    for _ in range(_MAX_OBJECTS):
        if start < 0:
            return
        try:
            value, end = _DECODER.raw_decode(answer, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = answer.find("{", end)
