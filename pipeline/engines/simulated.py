"""A cost model of a continuously batching engine, for benchmarks. Its answers are random; no LLM."""

from typing import Literal

from pipeline.engines.base import EngineSettings


class SimulatedSettings(EngineSettings):
    kind: Literal["simulated"]

    @property
    def simulated(self) -> bool:
        return True
