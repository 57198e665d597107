"""Resources that every node of the cluster lacks for a replica."""

from collections.abc import Mapping, Sequence

from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.dataflow.ray_compat import free_resources


def missing_resources(config: RerankerConfig) -> str | None:
    """Why no node of the cluster can hold a further replica of `config`; None if a node can."""
    engine, cpus = config.engine, config.cluster.cpus_per_replica
    spans_nodes = engine.placement_bundles is not None
    return describe_missing_resources(cpus, engine.gpus_per_replica, spans_nodes, free_resources())


def describe_missing_resources(
    cpus: float, gpus: int, spans_nodes: bool, free: Sequence[Mapping[str, float]]
) -> str | None:
    """One line with the reason why no node can hold a replica; None if a node can.

    Args:
        cpus: CPUs of a replica.
        gpus: GPUs of a replica.
        spans_nodes: Whether these may be on several nodes.
        free: Free resources of each node.
    """
    enough_together = spans_nodes and sum(node.get("GPU", 0.0) for node in free) >= gpus
    if enough_together or any(node.get("GPU", 0.0) >= gpus and node.get("CPU", 0.0) >= cpus for node in free):
        return None
    needed = {"GPU": float(gpus), "CPU": cpus}
    largest = {name: max((node.get(name, 0.0) for node in free), default=0.0) for name in needed}
    missing = [name for name in needed if largest[name] < needed[name]] or [name for name in needed if needed[name]]
    resources = " and ".join(f"{needed[name]:g} {name}, largest free {largest[name]:g}" for name in missing)
    together = "" if any(largest[name] < needed[name] for name in missing) else " on one node"
    return f"no node has room for a replica: needs {resources}{together}"
