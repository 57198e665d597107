"""A scripted engine with GPUs that exist only as Ray resources. It records where Ray placed its replica."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import ray
from pydantic import Field
from ray.util import get_current_placement_group, placement_group_table

from corpus_reranker.engines.base import EngineCapabilities, EngineContext
from corpus_reranker.engines.scripted import ScriptedEngine, ScriptedSettings
from corpus_reranker.errors import EngineStartError


class PlacedSettings(ScriptedSettings):
    """`log_path` also gets one line at each start of an engine."""

    speed_only: ClassVar[frozenset[str]] = ScriptedSettings.speed_only | {
        "gpus",
        "spans_nodes",
        "first_starts_at",
        "first_start_fails",
    }

    kind: str  # type: ignore[assignment]
    gpus: int = Field(1, description="GPUs of a replica.")
    spans_nodes: bool = Field(False, description="The GPUs may be on several nodes.")
    first_starts_at: str | None = Field(None, description="The first engine starts when this file exists.")

    first_start_fails: bool = Field(False, description="The first engine does not start.")

    @property
    def capabilities(self) -> EngineCapabilities:
        return replace(super().capabilities, gpus=self.gpus)

    @property
    def placement_bundles(self) -> tuple[dict[str, float], ...] | None:
        return self.gpus * ({"GPU": 1.0},) if self.spans_nodes else None


class PlacedEngine(ScriptedEngine):
    """Records its placement, and may start late or not at all if it is the first of the run."""

    settings_class = PlacedSettings

    def __init__(self, settings: PlacedSettings, context: EngineContext) -> None:
        super().__init__(settings, context)
        self._placed = settings

    async def start(self) -> None:
        self._wait_or_fail()
        await super().start()

    def _wait_or_fail(self) -> None:
        first = self._is_first()
        if first and (gate := self._placed.first_starts_at):
            while not Path(gate).exists():
                time.sleep(0.05)
        with Path(f"{self._placed.log_path}").open("ab", buffering=0) as log:
            log.write((json.dumps(_placement()) + "\n").encode())
        if first and self._placed.first_start_fails:
            raise EngineStartError("the first start fails")

    def _is_first(self) -> bool:
        try:
            Path(f"{self._placed.log_path}.first").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _placement() -> dict[str, Any]:
    context = ray.get_runtime_context()
    group = get_current_placement_group()
    return {
        "event": "placed",
        "process": os.getpid(),
        "node": context.get_node_id(),
        "gpus": context.get_accelerator_ids().get("GPU", []),
        "captures_child_tasks": context.should_capture_child_tasks_in_placement_group,
        "bundle_nodes": sorted(placement_group_table(group)["bundles_to_node_id"].values()) if group else [],
    }
