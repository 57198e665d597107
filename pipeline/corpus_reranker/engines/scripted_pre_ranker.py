"""A pre-ranker by a function. For tests and studies; no model."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import Field

from corpus_reranker.engines.base import EngineSettings
from corpus_reranker.engines.scripted import load_script

PassageScore: TypeAlias = Callable[[str, str], float]
"""From a query and a passage to its score. May raise RequestError or EngineDeadError."""


class ScriptedPreRankerSettings(EngineSettings):
    """What scores a passage is chosen by its text, and so is what fails."""

    kind: Literal["scripted"]
    model: str = "scripted"
    scores: str = Field(
        "corpus_reranker.engines.scripted_pre_ranker:shared_words",
        description='"module:function" that takes `arguments` and returns a PassageScore.',
    )
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        return True


class ScriptedPreRanker:
    """Scores one passage after the other."""

    def __init__(self, settings: ScriptedPreRankerSettings) -> None:
        self._score: PassageScore = load_script(settings.scores, settings.arguments, "pre_ranker.engine.scores")

    async def start(self) -> None:
        pass

    async def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return [self._score(query, passage) for passage in passages]

    async def stop(self) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return {"engine": "scripted", "simulated": True}


def shared_words() -> PassageScore:
    """How many of the query's words a passage holds."""
    return lambda query, passage: float(len(set(query.lower().split()) & set(passage.lower().split())))
