"""The engines and scorers a job config can name by `engine.kind` and `pre_ranker.engine.kind`."""

from importlib import import_module
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from corpus_reranker.engines.base import Engine, PreRanker
from corpus_reranker.engines.scripted import ScriptedSettings
from corpus_reranker.engines.scripted_pre_ranker import ScriptedPreRankerSettings
from corpus_reranker.engines.simulated import SimulatedSettings
from corpus_reranker.engines.vllm.engine import VllmSettings
from corpus_reranker.engines.vllm.pre_ranker import VllmPreRankerSettings

AnyEngineSettings: TypeAlias = Annotated[
    VllmSettings | ScriptedSettings | SimulatedSettings, Field(discriminator="kind")
]

AnyPreRankerSettings: TypeAlias = Annotated[
    VllmPreRankerSettings | ScriptedPreRankerSettings, Field(discriminator="kind")
]

ENGINES: dict[str, str] = {
    "vllm": "corpus_reranker.engines.vllm.engine:VllmEngine",
    "scripted": "corpus_reranker.engines.scripted:ScriptedEngine",
    "simulated": "corpus_reranker.engines.simulated:SimulatedEngine",
}


PRE_RANKERS: dict[str, str] = {
    "vllm": "corpus_reranker.engines.vllm.pre_ranker:VllmScorer",
    "scripted": "corpus_reranker.engines.scripted_pre_ranker:ScriptedScorer",
}


def create_engine(settings: AnyEngineSettings) -> Engine:
    """The engine of these settings, not started yet."""
    engine: Engine = _class_of(ENGINES[settings.kind])(settings)
    return engine


def create_pre_ranker(settings: AnyPreRankerSettings) -> PreRanker:
    """The scorer of these settings, not started yet."""
    pre_ranker: PreRanker = _class_of(PRE_RANKERS[settings.kind])(settings)
    return pre_ranker


def _class_of(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
