"""An oracle for the scripted engine: it ranks each window by the qrels."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from corpus_reranker.engines.scripted import Answer, passages
from corpus_reranker.types import SamplingParams

_QUERY = re.compile(r"^Search Query: (.*)\.$", re.MULTILINE)


def key(text: str) -> str:
    """The letters and digits of a text, which rendering does not change."""
    return "".join(character for character in text.lower() if character.isalnum())


def write_grades(path: Path, grades: Mapping[str, Mapping[str, int]]) -> None:
    """Write the grades that `oracle` reads. `grades` maps the text of a query and the text of a passage to a grade."""
    keyed = {
        key(query): {key(text): grade for text, grade in query_grades.items()} for query, query_grades in grades.items()
    }
    path.write_text(json.dumps(keyed), encoding="utf-8")


def oracle(grades_path: str) -> Answer:
    """Rank every window by descending grade, ties in the order of the prompt. A passage without a grade has grade 0."""
    grades = json.loads(Path(grades_path).read_text(encoding="utf-8"))

    def answer(text: str, params: SamplingParams) -> str:
        match = _QUERY.search(text)
        assert match, text[-500:]
        query_grades = grades[key(match[1])]
        passage_grades = [query_grades.get(key(passage), 0) for passage in passages(text)]
        order = sorted(range(len(passage_grades)), key=lambda position: -passage_grades[position])
        ranking = " > ".join(f"[{position + 1}]" for position in order)
        return f"<think>By the qrels.</think> <answer>{ranking}</answer>"

    return answer
