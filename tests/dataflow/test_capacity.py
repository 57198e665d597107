"""Windows in flight, queries per block and replicas: never fewer than engines and nodes have capacity for."""

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.config.cluster import ClusterConfig
from corpus_reranker.dataflow.capacity import (
    Capacity,
    NodeResources,
    ReplicaPlan,
    check_cpus_for_data,
    plan_blocks,
    plan_replicas,
    with_headroom,
)
from corpus_reranker.errors import ConfigError

HEAD = NodeResources(cpus=0, gpus=0)
H100_NODE = NodeResources(cpus=64, gpus=8)
CPU_NODE = NodeResources(cpus=4, gpus=0)


@pytest.mark.parametrize(
    ("capacity", "prompt_tokens", "output_tokens", "windows"),
    [
        (Capacity(256), 5690, 750, 256),
        (Capacity(256, 950_000), 5690, 750, 156),  # 950,000 / (5,690 + 375) = 156.6
        (Capacity(64, 950_000), 5690, 750, 64),
        (Capacity(256, 1000), 5690, 750, 1),
    ],
)
def test_capacity_is_the_smaller_of_max_num_seqs_and_kv_cache(
    capacity: Capacity, prompt_tokens: int, output_tokens: int, windows: int
) -> None:
    assert capacity.windows(prompt_tokens, output_tokens) == windows


@given(
    st.integers(1, 10**7),
    st.integers(1, 1000),
    st.integers(0, 500),
    st.integers(1, 2000),
    st.none() | st.integers(1, 64),
)
def test_blocks_fill_every_slot_despite_slow_queries(
    queries: int, fitting: int, more: int, in_flight: int, queries_per_block: int | None
) -> None:
    """A slow query blocks its block: with two blocks blocked, the others still fill every slot.

    No replica has more than its share, rounded up to a block, and the shares together cover all queries.
    """
    blocks = plan_blocks(queries, fitting + more, in_flight, fitting=fitting, queries_per_block=queries_per_block)
    size = blocks.queries_per_block
    assert (blocks.per_replica - 1) * size * fitting < queries
    everywhere = blocks.per_replica * size * fitting
    assert (blocks.per_replica - 2) * size >= in_flight or everywhere >= queries
    assert queries_per_block in (None, size)


@pytest.mark.parametrize(
    ("queries", "replicas", "queries_per_block"),
    [(10**5, 32, 25), (10**6, 32, 250), (10**7, 32, 256), (10**6, 1000, 15), (2000, 1, 16), (2000, 8, 3), (100, 8, 1)],
)
def test_blocks_are_small_compared_with_the_run(queries: int, replicas: int, queries_per_block: int) -> None:
    assert plan_blocks(queries, replicas, 256, fitting=replicas).queries_per_block == queries_per_block


@pytest.mark.parametrize(("queries", "queries_per_file"), [(100, 1), (32_000, 16), (10**6, 500)])
def test_a_run_has_about_2000_files_at_most(queries: int, queries_per_file: int) -> None:
    assert plan_blocks(queries, 1, 256, fitting=1).queries_per_file == queries_per_file


@given(st.integers(1, 10_000))
def test_headroom_keeps_some_windows_waiting(windows: int) -> None:
    assert windows < with_headroom(windows) <= windows * 1.125 + 1


@pytest.mark.parametrize(
    ("cluster", "gpus", "nodes", "plan"),
    [
        pytest.param({"max_replicas": 8}, 1, [HEAD, H100_NODE], ReplicaPlan(8, 8), id="a GPU for each"),
        pytest.param({"max_replicas": 8}, 4, [HEAD, H100_NODE], ReplicaPlan(8, 2), id="GPUs for two; six stay pending"),
        pytest.param({"max_replicas": 8}, 1, [HEAD], ReplicaPlan(8, 8), id="no node yet: the cluster grows"),
        pytest.param({"min_replicas": 4, "max_replicas": 8}, 8, [H100_NODE], ReplicaPlan(8, 4), id="min is a share"),
        pytest.param({"max_replicas": 4}, 16, [HEAD, *4 * [H100_NODE]], ReplicaPlan(4, 2), id="two nodes for each"),
        pytest.param({"replicas": 3}, 1, [H100_NODE], ReplicaPlan(3, 3), id="fixed"),
        pytest.param({"replicas": 3}, 0, [CPU_NODE], ReplicaPlan(3, 3), id="fixed, without GPUs"),
        pytest.param(
            {"max_replicas": 3, "cpus_per_replica": 3},
            0,
            [HEAD, *3 * [CPU_NODE]],
            ReplicaPlan(3, 3),
            id="a node each",
        ),
        pytest.param({"max_replicas": 8}, 0, [CPU_NODE], ReplicaPlan(2, 2), id="two CPUs are left for reading"),
        pytest.param({"max_replicas": 8}, 0, [], ReplicaPlan(1, 1), id="at least min_replicas"),
        pytest.param({"replicas": 6}, 0, [CPU_NODE], ReplicaPlan(2, 2), id="nodes are missing: the others start later"),
        pytest.param({"replicas": 6}, 0, [HEAD], ReplicaPlan(6, 6), id="no node yet, without GPUs"),
    ],
)
def test_the_replicas_requested_at_the_start_fit_the_nodes(
    cluster: dict[str, int], gpus: int, nodes: list[NodeResources], plan: ReplicaPlan
) -> None:
    assert plan_replicas(ClusterConfig(**cluster), gpus, nodes) == plan


@pytest.mark.parametrize(
    ("cluster", "gpus", "nodes", "left"),
    [
        pytest.param({"replicas": 4}, 0, [CPU_NODE], 0, id="all CPUs"),
        pytest.param({"replicas": 3}, 0, [CPU_NODE], 1, id="all but one"),
        pytest.param({"replicas": 2}, 0, [CPU_NODE], 2, id="two are left"),
        pytest.param({"replicas": 2, "cpus_per_replica": 3.5}, 0, 2 * [CPU_NODE], 0, id="half a CPU on each node"),
        pytest.param({"replicas": 1, "cpus_per_replica": 3.5}, 0, 2 * [CPU_NODE], 4, id="a node without a replica"),
        pytest.param({"replicas": 6}, 0, [CPU_NODE], 2, id="not all replicas fit"),
        pytest.param({"max_replicas": 16}, 1, [NodeResources(8, 8)], 0, id="a CPU for each GPU"),
        pytest.param({"max_replicas": 8, "cpus_per_replica": 0.5}, 1, [NodeResources(8, 8)], 4, id="half a CPU"),
        pytest.param({"replicas": 2}, 1, [HEAD], None, id="no node yet"),
    ],
)
def test_replicas_leave_cpus_for_reading(
    cluster: dict[str, float], gpus: int, nodes: list[NodeResources], left: int | None
) -> None:
    """A run needs a CPU besides its replicas; one that skips finished queries needs two."""
    for resumed, needed in ((False, 1), (True, 2)):
        refusal = pytest.raises(ConfigError, match=f"{left} CPUs? of .* reading needs {needed}")
        with refusal if left is not None and left < needed else nullcontext():
            check_cpus_for_data(ClusterConfig(**cluster), gpus, nodes, resumed=resumed)
