"""Ray placement groups for replicas that span several nodes."""

import uuid
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util import placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

_PROBE_SECONDS = 1.0
"""How long the actors of all groups have to answer. A dead actor fails its call at once; an actor whose engine starts
answers later."""


class ReplicaPlacement:
    """Reserves one placement group for each replica. A call, before the replica's actor starts, returns its options.

    The actor runs in the group's first bundle and captures child tasks: vLLM's Ray executor starts one worker in each
    bundle. Ray keeps a group until the driver exits, so the group of a dead replica is removed when the next
    replica starts, and `release` removes all groups.
    """

    def __init__(self, bundles: Sequence[dict[str, float]], cpus_per_replica: float) -> None:
        """Store the resources. Nothing is reserved yet.

        Args:
            bundles: Resources of each bundle of one replica: one GPU each.
            cpus_per_replica: CPUs of the actor, which are added to the first bundle.
        """
        first, *others = bundles
        cpus = first.get("CPU", 0.0) + cpus_per_replica
        self._bundles = [{**first, "CPU": cpus} if cpus else first, *others]
        self._groups: dict[str, PlacementGroup] = {}

    def __call__(self) -> dict[str, Any]:
        """Reserve a group and return the options of the actor that is about to start."""
        self._remove_groups_of_lost_actors()
        name = f"corpus-reranker-{uuid.uuid4().hex}"
        self._groups[name] = placement_group(self._bundles, strategy="PACK", name=name)
        strategy = PlacementGroupSchedulingStrategy(
            self._groups[name], placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        return {"name": name, "scheduling_strategy": strategy}

    def release(self) -> None:
        """Remove all groups, and with them the actors in them."""
        for name in list(self._groups):
            self._remove(name)

    def _remove_groups_of_lost_actors(self) -> None:
        calls = {}
        for name in list(self._groups):
            try:
                calls[ray.get_actor(name).__ray_ready__.remote()] = name
            except ValueError:  # the actor does not exist yet, or no longer exists
                self._remove(name)
        answered, _ = ray.wait(list(calls), num_returns=len(calls), timeout=_PROBE_SECONDS) if calls else ([], [])
        for call in answered:
            try:
                ray.get(call)
            except RayActorError:  # the actor failed to start; Ray keeps its name for a while
                self._remove(calls[call])

    def _remove(self, name: str) -> None:
        remove_placement_group(self._groups.pop(name))
