"""The engines and scorers a job config can name by `engine.kind` and `first_pass.engine.kind`."""

from importlib import import_module
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from pipeline.engines.base import Engine, Scorer
from pipeline.engines.scripted import ScriptedSettings
from pipeline.engines.scripted_scorer import ScriptedScorerSettings
from pipeline.engines.simulated import SimulatedSettings
from pipeline.engines.vllm import VllmSettings
from pipeline.engines.vllm_scorer import VllmScorerSettings

AnyEngineSettings: TypeAlias = Annotated[
    VllmSettings | ScriptedSettings | SimulatedSettings, Field(discriminator="kind")
]

AnyScorerSettings: TypeAlias = Annotated[VllmScorerSettings | ScriptedScorerSettings, Field(discriminator="kind")]

ENGINES: dict[str, str] = {
    "vllm": "pipeline.engines.vllm:VllmEngine",
    "scripted": "pipeline.engines.scripted:ScriptedEngine",
    "simulated": "pipeline.engines.simulated:SimulatedEngine",
}


SCORERS: dict[str, str] = {
    "vllm": "pipeline.engines.vllm_scorer:VllmScorer",
    "scripted": "pipeline.engines.scripted_scorer:ScriptedScorer",
}


def create_engine(settings: AnyEngineSettings) -> Engine:
    """The engine of these settings, not started yet."""
    engine: Engine = _class_of(ENGINES[settings.kind])(settings)
    return engine


def create_scorer(settings: AnyScorerSettings) -> Scorer:
    """The scorer of these settings, not started yet."""
    scorer: Scorer = _class_of(SCORERS[settings.kind])(settings)
    return scorer


def _class_of(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
