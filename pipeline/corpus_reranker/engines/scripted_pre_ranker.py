"""A pre-ranker whose scores come from a Python function, for tests and benchmarks; no model."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.engines.scripted import check_script, load_script
from corpus_reranker.io.settings import StorageConfig

PassageScore: TypeAlias = Callable[[str, str], float]
"""Maps a query and a passage to a score. May raise RequestError or EngineDeadError."""


class ScriptedPreRankerSettings(EngineSettings):
    """A pre-ranker for tests: a Python function scores each pair of query and passage."""

    kind: Literal["scripted"] = Field("scripted", description="The scripted pre-ranker.")
    model: str = Field("scripted", description="Model name that the output records.")
    scores: str = Field(
        "corpus_reranker.engines.scripted_pre_ranker:shared_words",
        description='"module:function" that is called with `arguments` and returns the scoring function.',
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of `scores`.")

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(simulated=True)

    def preflight(self, section: str, storage: StorageConfig) -> list[str]:
        check_script(self.scores, self.arguments, f"{section}.scores")
        return []


class ScriptedPreRanker:
    """Calls the configured function for one passage after the other."""

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
    """Scores by the number of the query's words that a passage contains."""
    return lambda query, passage: float(len(set(query.lower().split()) & set(passage.lower().split())))
