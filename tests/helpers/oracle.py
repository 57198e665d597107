"""Answers of a judge who knows the qrels: the scripted engine of tests and studies. No LLM."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from corpus_reranker.engines.scripted import Answer, passages
from corpus_reranker.types import SamplingParams

_QUERY = re.compile(r"^Search Query: (.*)\.$", re.MULTILINE)


def key(text: str) -> str:
    """What of a text survives rendering: its letters and digits."""
    return "".join(character for character in text.lower() if character.isalnum())


def write_grades(path: Path, grades: Mapping[str, Mapping[str, int]]) -> None:
    """`grades` maps a query's text to the grades of its passages' texts."""
    keyed = {key(query): {key(text): grade for text, grade in of.items()} for query, of in grades.items()}
    path.write_text(json.dumps(keyed), encoding="utf-8")


def oracle(grades_path: str) -> Answer:
    """Answers every window by falling grade, ties in the order shown. A passage nobody graded has grade 0."""
    grades = json.loads(Path(grades_path).read_text(encoding="utf-8"))

    def answer(text: str, params: SamplingParams) -> str:
        match = _QUERY.search(text)
        assert match, text[-500:]
        of_query = grades[key(match[1])]
        shown = [of_query.get(key(passage), 0) for passage in passages(text)]
        order = sorted(range(len(shown)), key=lambda position: -shown[position])
        ranking = " > ".join(f"[{position + 1}]" for position in order)
        return f"<think>By the qrels.</think> <answer>{ranking}</answer>"

    return answer
