"""A pre-ranker by a function. For tests and studies; no model."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.engines.scripted import load_script

PassageScore: TypeAlias = Callable[[str, str], float]
"""From a query and a passage to its score. May raise RequestError or EngineDeadError."""


class ScriptedPreRankerSettings(EngineSettings):
    """The scoring function sees query and passage, and may fail on them."""

    kind: Literal["scripted"] = "scripted"
    model: str = "scripted"
    scores: str = Field(
        "corpus_reranker.engines.scripted_pre_ranker:shared_words",
        description='"module:function" that takes `arguments` and returns a PassageScore.',
    )
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(simulated=True)


class ScriptedPreRanker:
    """Scores one passage after the other."""

    settings_class: ClassVar[type[EngineSettings]] = ScriptedPreRankerSettings

    def __init__(self, settings: ScriptedPreRankerSettings, context: EngineContext | None = None) -> None:
        self._score: PassageScore = load_script(settings.scores, settings.arguments, "pre_ranker.engine.scores")

    async def start(self) -> None:
        pass

    async def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return [self._score(query, passage) for passage in passages]

    def progress(self) -> int:
        return 0

    async def stop(self) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return {"engine": "scripted", "simulated": True}


def shared_words() -> PassageScore:
    """How many of the query's words a passage holds."""
    return lambda query, passage: float(len(set(query.lower().split()) & set(passage.lower().split())))
