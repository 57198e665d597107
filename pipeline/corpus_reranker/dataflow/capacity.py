"""Arithmetic of load: windows in an engine, blocks of queries on a replica, replicas at the start of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus_reranker.config.cluster import ClusterConfig
from corpus_reranker.config.schema import RerankerConfig

_HEADROOM_FRACTION = 0.125
"""Windows that wait in the engine beside those that run, so that a slot is filled in the step in which it becomes free.
tests/benchmarks/scheduling_study.py measures smaller and larger values."""

_BLOCK_SLACK_FRACTION = 1.0
"""Blocks on a replica beyond those that its queries in flight fill. A block is returned when its slowest query is done;
until then the slots of its other queries would be empty. Chains of 9 windows with lognormal lengths vary by about 0.3
of their mean, so the longest of 16 takes 1.5 times the mean. The rest covers the tail of the run, in which as many more
chains run side by side (tests/benchmarks/scheduling_study.py: 0.3% to 1.5% of a run's time)."""

_MIN_BLOCKS_PER_REPLICA = 64
"""Blocks are so small that each replica gets this many, so that no replica ends the run with a long queue."""

_MAX_FILES = 2000
"""Approximate. With more blocks than this, several are written to one file: a crash then loses 1/2000 of the run."""

_MIN_QUERIES_PER_BLOCK = 16
_MAX_QUERIES_PER_BLOCK = 256
_MAX_BLOCKS = 4000
"""Approximate. Each block takes about 7 kB of the driver's memory until the run ends (docs/throughput.md), so larger
runs have larger blocks."""

_CPUS_FOR_DATA = 2
"""CPUs that replicas without a GPU leave free at the start: one for reading, one for filtering and repartitioning."""


def with_headroom(windows: int) -> int:
    """Windows to keep in flight so that an engine that holds `windows` never runs out of them."""
    return windows + max(1, math.ceil(windows * _HEADROOM_FRACTION))


def max_windows_in_flight(config: RerankerConfig) -> int:
    """The most windows that one replica keeps in flight.

    The number it aims at while it runs can be lower: it depends on the engine's KV cache and on the windows' lengths.
    """
    return config.cluster.queries_in_flight or with_headroom(config.engine.max_num_seqs)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine holds: at most `max_num_seqs` windows, as far as its KV cache has space for them."""

    max_num_seqs: int
    kv_cache_tokens: int | None = None
    """Tokens of full-attention layers that the KV cache holds. None: no limit."""
    sliding_layers_fraction: float = 0.0
    """Fraction of layers that keep the last `sliding_window_tokens` of a window and no more."""
    sliding_window_tokens: int = 0

    @classmethod
    def from_engine_info(cls, max_num_seqs: int, info: Mapping[str, Any]) -> "Capacity":
        """The capacity in Engine.info() of a started engine."""
        return cls(
            max_num_seqs,
            info.get("kv_cache_tokens"),
            info.get("sliding_layers_fraction", 0.0),
            info.get("sliding_window_tokens", 0),
        )

    def windows(self, prompt_tokens: float, output_tokens: float) -> int:
        """How many windows of these mean lengths the engine holds at once. On average, half of an output is there."""
        if self.kv_cache_tokens is None:
            return self.max_num_seqs
        held_tokens = max(prompt_tokens + output_tokens / 2, 1.0)
        in_sliding_layers = min(held_tokens, self.sliding_window_tokens)
        average_tokens = held_tokens + self.sliding_layers_fraction * (in_sliding_layers - held_tokens)
        return max(1, min(self.max_num_seqs, int(self.kv_cache_tokens / average_tokens)))


@dataclass(frozen=True, slots=True)
class NodeResources:
    """What one node of the Ray cluster has in total, in use or not."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """How many replicas a run starts with.

    `initial` are requested at the start. `fitting` of them fit the nodes that are there: queries are shared among
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
    initial = max(low, fitting)
    return ReplicaPlan(initial, initial)


def _fitting(cpus: float, gpus: int, nodes: Sequence[NodeResources], most: int) -> int:
    """How many replicas fit the nodes, at most `most`. One that is larger than every node takes several of them."""
    if gpus > max((node.gpus for node in nodes), default=0):
        return min(most, int(sum(node.gpus for node in nodes) // gpus))
    fits_node = [min(node.gpus // gpus if gpus else most, node.cpus // cpus if cpus else most) for node in nodes]
    fitting = min(most, int(sum(fits_node)))
    if gpus or not cpus:
        return fitting
    return min(fitting, int((sum(node.cpus for node in nodes) - _CPUS_FOR_DATA) // cpus))


@dataclass(frozen=True, slots=True)
class Blocks:
    """How queries reach a replica: `per_replica` blocks at once, of `queries_per_block` queries each."""

    queries_per_block: int
    per_replica: int
    queries_per_file: int
    """At least. 1 if each block is a file."""


def plan_blocks(
    queries: int, max_replicas: int, in_flight: int, *, fitting: int, queries_per_block: int | None = None
) -> Blocks:
    """Blocks for the queries that remain.

    Args:
        queries: Number of queries that remain.
        max_replicas: The most replicas that can work on them. Blocks are small enough for so many.
        in_flight: Queries in flight on each replica.
        fitting: Replicas that can start at once. No replica holds more than its share among these, so that those
            whose engines start first leave queries of a small run to the others.
        queries_per_block: Size of a block. None: small beside what a replica does in the run.
    """
    if queries_per_block is None:
        most = max(_MIN_QUERIES_PER_BLOCK, min(_MAX_QUERIES_PER_BLOCK, queries // _MAX_BLOCKS))
        queries_per_block = max(1, min(most, queries // (max_replicas * _MIN_BLOCKS_PER_REPLICA)))
    share = math.ceil(queries / (fitting * queries_per_block))
    per_replica = max(1, min(share, blocks_in_flight(in_flight, queries_per_block)))
    return Blocks(queries_per_block, per_replica, max(1, queries // _MAX_FILES))


def blocks_in_flight(in_flight: int, queries_per_block: int) -> int:
    """Blocks that keep `in_flight` queries in flight on a replica although each is held up by its slowest query."""
    needed = math.ceil(in_flight / queries_per_block)
    return needed + max(2, math.ceil(needed * _BLOCK_SLACK_FRACTION))
