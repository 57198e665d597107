"""The engines a job config can name by `engine.kind`."""

from importlib import import_module
from typing import Annotated, TypeAlias

from pydantic import Field

from pipeline.engines.base import Engine
from pipeline.engines.scripted import ScriptedSettings
from pipeline.engines.simulated import SimulatedSettings
from pipeline.engines.vllm import VllmSettings

AnyEngineSettings: TypeAlias = Annotated[
    VllmSettings | ScriptedSettings | SimulatedSettings, Field(discriminator="kind")
]

ENGINES: dict[str, str] = {
    "vllm": "pipeline.engines.vllm:VllmEngine",
    "scripted": "pipeline.engines.scripted:ScriptedEngine",
    "simulated": "pipeline.engines.simulated:SimulatedEngine",
}


def create_engine(settings: AnyEngineSettings) -> Engine:
    """The engine of these settings, not started yet."""
    module, _, attribute = ENGINES[settings.kind].partition(":")
    engine: Engine = getattr(import_module(module), attribute)(settings)
    return engine
