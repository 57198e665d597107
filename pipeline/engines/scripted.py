"""Answers from a function or a file, with failures and delays on chosen queries. For tests; no LLM."""

from typing import Literal

from pipeline.engines.base import EngineSettings


class ScriptedSettings(EngineSettings):
    kind: Literal["scripted"]
