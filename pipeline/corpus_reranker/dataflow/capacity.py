"""Computes load: windows in an engine, blocks of queries on a replica, replicas at the start of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus_reranker.config.cluster import ClusterConfig
from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.formatting import counted

_HEADROOM_FRACTION = 0.125
"""Windows that wait in the engine in addition to those running, so that a free slot is filled in the next step.
tests/benchmarks/scheduling_study.py measures smaller and larger values."""

_BLOCK_SLACK_FRACTION = 1.0
"""Spare blocks on a replica, per block that its queries in flight fill. A block returns when its slowest query is done;
until then the slots of its other queries would be empty. Chains of 9 windows with lognormal lengths vary by about 0.3
of their mean, so the longest of 16 takes 1.5 times the mean. The rest covers the tail of the run, in which that many
more chains run concurrently (tests/benchmarks/scheduling_study.py: 0.3% to 1.5% of a run's time)."""

_MIN_BLOCKS_PER_REPLICA = 64
"""Minimum number of blocks per replica: blocks are small enough that no replica ends the run with a long queue."""

_MAX_FILES = 2000
"""Approximate maximum. With more blocks than this, several share a file: a crash then loses 1/2000 of the run."""

_MIN_QUERIES_PER_BLOCK = 16
_MAX_QUERIES_PER_BLOCK = 256
_MAX_BLOCKS = 4000
"""Approximate maximum. Each block takes about 7 kB of the driver's memory until the run ends (docs/throughput.md), so
larger runs have larger blocks."""

_CPUS_FOR_DATA = 2
"""CPUs that replicas without a GPU leave free at the start: one for reading, one for filtering and repartitioning."""

_MIN_CPUS_FOR_DATA = 1
"""CPUs without which no query reaches a replica: reading and repartitioning take turns."""

_MIN_CPUS_FOR_RESUME = 2
"""The same for a resumed run: the actor that filters finished queries keeps a CPU."""


def with_headroom(windows: int) -> int:
    """Windows to keep in flight so that an engine that holds `windows` never runs out of them."""
    return windows + max(1, math.ceil(windows * _HEADROOM_FRACTION))


def max_windows_in_flight(config: RerankerConfig) -> int:
    """The maximum number of windows that one replica keeps in flight.

    The target during the run can be lower: it depends on the engine's KV cache and on the windows' lengths.
    """
    return config.cluster.queries_in_flight or with_headroom(config.engine.max_num_seqs)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Capacity of an engine: up to `max_num_seqs` windows, if its KV cache has space for them."""

    max_num_seqs: int
    kv_cache_tokens: int | None = None
    """Tokens of full-attention layers that the KV cache holds. None: no limit."""
    sliding_layers_fraction: float = 0.0
    """Fraction of layers that keep only the last `sliding_window_tokens` tokens of a window."""
    sliding_window_tokens: int = 0

    @classmethod
    def from_engine_info(cls, max_num_seqs: int, info: Mapping[str, Any]) -> "Capacity":
        """The capacity that Engine.info() of a started engine reports. Its `concurrency` may change at any time."""
        return cls(
            min(max_num_seqs, info.get("concurrency", max_num_seqs)),
            info.get("kv_cache_tokens"),
            info.get("sliding_layers_fraction", 0.0),
            info.get("sliding_window_tokens", 0),
        )

    def windows(self, prompt_tokens: float, output_tokens: float) -> int:
        """Number of windows with these mean lengths that the engine holds. On average, half of an output is written."""
        if self.kv_cache_tokens is None:
            return self.max_num_seqs
        held_tokens = max(prompt_tokens + output_tokens / 2, 1.0)
        in_sliding_layers = min(held_tokens, self.sliding_window_tokens)
        average_tokens = held_tokens + self.sliding_layers_fraction * (in_sliding_layers - held_tokens)
        return max(1, min(self.max_num_seqs, int(self.kv_cache_tokens / average_tokens)))


@dataclass(frozen=True, slots=True)
class NodeResources:
    """Total resources of one node of the Ray cluster, whether in use or not."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """How many replicas a run starts with.

    `initial` replicas are requested at the start. `fitting` of them fit the current nodes; queries are divided among
    these.
    """

    initial: int
    fitting: int


def plan_replicas(cluster: ClusterConfig, gpus_per_replica: int, nodes: Sequence[NodeResources]) -> ReplicaPlan:
    """Replicas to request at the start on these nodes.

    Replicas with GPUs are all requested. Those that find no GPU stay pending: a cluster autoscaler adds nodes for
    pending actors, and a node that joins later gets its replica at once. Replicas without GPUs could occupy every CPU
    and stop the tasks that read; only those that fit beside these tasks are requested, and Ray Data adds others when
    nodes join.
    """
    low, high = cluster.min_replica_count, cluster.max_replica_count
    fitting = _fitting(cluster.cpus_per_replica, gpus_per_replica, nodes, high)
    if gpus_per_replica:
        # No GPU at all: the cluster grows on demand, and its nodes join at about the same time.
        return ReplicaPlan(initial=high, fitting=max(low, fitting) if fitting else high)
    capacity = sum(_on_each_node(cluster.cpus_per_replica, gpus_per_replica, nodes, high))
    # Replicas without a node start once one has joined. No node at all: the cluster grows on demand.
    initial = max(1 if 0 < capacity < low else low, fitting)
    return ReplicaPlan(initial, initial)


def check_cpus_for_data(
    cluster: ClusterConfig, gpus_per_replica: int, nodes: Sequence[NodeResources], *, resumed: bool
) -> None:
    """Check that the replicas leave enough CPUs to read queries. Otherwise the run would wait forever.

    Raises:
        ConfigError: The replicas leave too few CPUs. A cluster without a node for a replica is not checked, because it
            grows on demand.
    """
    plan = plan_replicas(cluster, gpus_per_replica, nodes)
    replicas = _on_each_node(cluster.cpus_per_replica, gpus_per_replica, nodes, plan.initial)
    left = sum(int(node.cpus - number * cluster.cpus_per_replica) for node, number in zip(nodes, replicas, strict=True))
    needed = _MIN_CPUS_FOR_RESUME if resumed else _MIN_CPUS_FOR_DATA
    if sum(replicas) and left < needed:
        raise ConfigError(
            f"{counted(sum(replicas), 'replica')} with cluster.cpus_per_replica {cluster.cpus_per_replica:g} leave"
            f" {counted(left, 'CPU')} of {sum(node.cpus for node in nodes):g} in the cluster, and reading needs"
            f" {needed}; lower cluster.cpus_per_replica or the number of replicas, or add a node"
        )


def _on_each_node(cpus: float, gpus: int, nodes: Sequence[NodeResources], most: int) -> list[int]:
    """Number of replicas on each node if the nodes are filled in turn, up to `most` in total."""
    replicas: list[int] = []
    for node in nodes:
        fits = min(node.gpus // gpus if gpus else most, node.cpus // cpus if cpus else most)
        replicas.append(min(int(fits), most - sum(replicas)))
    return replicas


def _fitting(cpus: float, gpus: int, nodes: Sequence[NodeResources], most: int) -> int:
    """Number of replicas that fit the nodes, up to `most`. A replica larger than any node takes several nodes."""
    if gpus > max((node.gpus for node in nodes), default=0):
        return min(most, int(sum(node.gpus for node in nodes) // gpus))
    fitting = sum(_on_each_node(cpus, gpus, nodes, most))
    if gpus or not cpus:
        return fitting
    return min(fitting, int((sum(node.cpus for node in nodes) - _CPUS_FOR_DATA) // cpus))


@dataclass(frozen=True, slots=True)
class Blocks:
    """How queries reach a replica: `per_replica` blocks at once, of `queries_per_block` queries each."""

    queries_per_block: int
    per_replica: int
    queries_per_file: int
    """Minimum number of queries in a file. 1: each block is a file."""


def plan_blocks(
    queries: int, max_replicas: int, in_flight: int, *, fitting: int, queries_per_block: int | None = None
) -> Blocks:
    """Blocks for the queries that remain.

    Args:
        queries: Number of queries that remain.
        max_replicas: Maximum number of replicas. Blocks are small enough for all of them.
        in_flight: Queries in flight on each replica.
        fitting: Replicas that can start at once. No replica holds more than its share among these, so that those
            whose engines start first leave queries of a small run to the others.
        queries_per_block: Size of a block. None: a small fraction of the queries of one replica.
    """
    if queries_per_block is None:
        most = max(_MIN_QUERIES_PER_BLOCK, min(_MAX_QUERIES_PER_BLOCK, queries // _MAX_BLOCKS))
        queries_per_block = max(1, min(most, queries // (max_replicas * _MIN_BLOCKS_PER_REPLICA)))
    share = math.ceil(queries / (fitting * queries_per_block))
    per_replica = max(1, min(share, blocks_in_flight(in_flight, queries_per_block)))
    return Blocks(queries_per_block, per_replica, max(1, queries // _MAX_FILES))


def blocks_in_flight(in_flight: int, queries_per_block: int) -> int:
    """Blocks that keep `in_flight` queries in flight on a replica although each block waits for its slowest query."""
    needed = math.ceil(in_flight / queries_per_block)
    return needed + max(2, math.ceil(needed * _BLOCK_SLACK_FRACTION))
