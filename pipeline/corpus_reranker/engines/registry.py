"""The engines and pre-rankers that a job config names by `engine.kind` and `pre_ranker.engine.kind`.

A kind is a name registered here, or "module:Class" of a class on the Python path. The `settings_class` of the class
validates its section of the config. The class is constructed with these settings and an EngineContext.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator

from corpus_reranker.engines.base import Engine, EngineContext, EngineSettings, PreRanker
from corpus_reranker.engines.hang_watch import WatchedEngine, WatchedPreRanker
from corpus_reranker.plugins import load_class

ENGINES: dict[str, str] = {
    "vllm": "corpus_reranker.engines.vllm.engine:VllmEngine",
    "openai": "corpus_reranker.engines.openai.engine:OpenAIEngine",
    "scripted": "corpus_reranker.engines.scripted:ScriptedEngine",
    "simulated": "corpus_reranker.engines.simulated:SimulatedEngine",
}

PRE_RANKERS: dict[str, str] = {
    "vllm": "corpus_reranker.engines.vllm.pre_ranker:VllmPreRanker",
    "scripted": "corpus_reranker.engines.scripted_pre_ranker:ScriptedPreRanker",
}


def settings_class(role: str, kind: str, registered: Mapping[str, str]) -> type[EngineSettings]:
    """The settings class of the engine or pre-ranker `kind`. Raises ValueError if there is none."""
    cls = getattr(load_class(role, kind, registered), "settings_class", None)
    if not (isinstance(cls, type) and issubclass(cls, EngineSettings)):
        raise ValueError(f"{role} {kind!r} has no settings_class that derives from EngineSettings")
    return cls


def _validate(value: Any, *, role: str, registered: Mapping[str, str]) -> EngineSettings:
    if isinstance(value, EngineSettings):
        return value
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str):
        raise ValueError(f'{role} needs a kind: one of {", ".join(sorted(registered))}, or "module:Class"')
    return settings_class(role, kind, registered).model_validate(value)


def _dump(settings: EngineSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json")


AnyEngineSettings: TypeAlias = Annotated[
    EngineSettings,
    PlainValidator(partial(_validate, role="engine", registered=ENGINES)),
    PlainSerializer(_dump),
]

AnyPreRankerSettings: TypeAlias = Annotated[
    EngineSettings,
    PlainValidator(partial(_validate, role="pre-ranker", registered=PRE_RANKERS)),
    PlainSerializer(_dump),
]


def create_engine(settings: EngineSettings, context: EngineContext | None = None) -> Engine:
    """Create the engine of these settings without starting it. If it hangs, its calls raise EngineDeadError."""
    cls = load_class("engine", settings.kind, ENGINES)
    return WatchedEngine(cls(settings, context or EngineContext()), settings.hang_timeout_seconds)


def create_pre_ranker(settings: EngineSettings, context: EngineContext | None = None) -> PreRanker:
    """Create the pre-ranker of these settings without starting it. If it hangs, its calls raise EngineDeadError."""
    cls = load_class("pre-ranker", settings.kind, PRE_RANKERS)
    return WatchedPreRanker(cls(settings, context or EngineContext()), settings.hang_timeout_seconds)
