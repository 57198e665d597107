"""How much to keep in flight: windows in an engine, blocks of queries on a replica. Arithmetic alone."""

import math
from dataclasses import dataclass

_HEADROOM_FRACTION = 0.125
"""Windows that wait in the engine beside those it holds, so that a place which falls free is taken at its next step.
tests/benchmarks/scheduling_study.py has what less and more than this give."""

_BLOCK_SLACK_FRACTION = 1.0
"""More blocks on a replica than its queries in flight fill. A block leaves when its slowest query is done, and its
other places stand empty until then: chains of 9 windows of lognormal lengths vary by about 0.3 of their mean, so that
the longest of 16 takes 1.5 times the mean. The rest waits for the end of the run, where as many chains again go on side
by side (tests/benchmarks/scheduling_study.py: 0.3% to 1.5% of a run's time)."""

_BLOCKS_A_REPLICA = 64
"""What is left of the queries is cut at least so fine, so that no replica ends the run with a long row of them."""

_FILES_AT_MOST = 2000
"""About. Blocks wait for each other to be written where there would be more: a crash then costs 1/2000 of the run."""

_QUERIES_PER_BLOCK = 16
_QUERIES_PER_BLOCK_AT_MOST = 256
_BLOCKS_AT_MOST = 4000
"""About. Each costs the driver some 7 kB until the run ends (docs/throughput.md), so larger runs have larger ones."""


def with_headroom(windows: int) -> int:
    """Windows to keep in flight so that an engine that holds `windows` is never short of one."""
    return windows + max(1, math.ceil(windows * _HEADROOM_FRACTION))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine holds: at most `max_num_seqs` windows, in a KV cache of `kv_cache_tokens` (None: no limit)."""

    max_num_seqs: int
    kv_cache_tokens: int | None = None

    def windows(self, prompt_tokens: float, output_tokens: float) -> int:
        """How many windows of this mean length it holds at once. Of an output half is there, on average."""
        if self.kv_cache_tokens is None:
            return self.max_num_seqs
        held_tokens = max(prompt_tokens + output_tokens / 2, 1.0)
        return max(1, min(self.max_num_seqs, int(self.kv_cache_tokens / held_tokens)))


@dataclass(frozen=True, slots=True)
class Blocks:
    """How queries come to a replica: so many blocks at once, of so many queries."""

    queries_per_block: int
    per_replica: int
    queries_per_file: int
    """At least: 1 where a file is a block."""


def plan_blocks(
    queries: int, min_replicas: int, max_replicas: int, in_flight: int, queries_per_block: int | None = None
) -> Blocks:
    """Blocks for `queries` that remain, over so many replicas, each with `in_flight` queries at once.

    `queries_per_block` fixes their size; else it is small beside what a replica does in the run. A replica holds no
    more than its share, so that those whose engines start first leave a small run's queries to the others.
    """
    if queries_per_block is None:
        most = max(_QUERIES_PER_BLOCK, min(_QUERIES_PER_BLOCK_AT_MOST, queries // _BLOCKS_AT_MOST))
        queries_per_block = max(1, min(most, queries // (max_replicas * _BLOCKS_A_REPLICA)))
    needed = math.ceil(in_flight / queries_per_block)
    share = math.ceil(queries / (min_replicas * queries_per_block))
    blocks = min(share, needed + max(2, math.ceil(needed * _BLOCK_SLACK_FRACTION)))
    return Blocks(queries_per_block, blocks, max(1, queries // _FILES_AT_MOST))
