"""How much is kept in flight: never less than the engine holds, and fine-grained near the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.dataflow.capacity import Capacity, plan_blocks, with_headroom


@pytest.mark.parametrize(
    ("capacity", "prompt_tokens", "output_tokens", "windows"),
    [
        (Capacity(256), 5690, 750, 256),
        (Capacity(256, 950_000), 5690, 750, 156),  # 950,000 / (5,690 + 375) = 156.6
        (Capacity(64, 950_000), 5690, 750, 64),
        (Capacity(256, 1000), 5690, 750, 1),
    ],
)
def test_capacity_is_the_smaller_of_places_and_cache(
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
def test_blocks_fill_every_place_beside_slow_queries(
    queries: int, min_replicas: int, more: int, in_flight: int, queries_per_block: int | None
) -> None:
    """A slow query holds its block: two of them may be held up, and the others still fill every place.

    But no replica holds more than its share, to a block, and with shares alone all queries are on some replica.
    """
    blocks = plan_blocks(queries, min_replicas, min_replicas + more, in_flight, queries_per_block)
    size = blocks.queries_per_block
    assert (blocks.per_replica - 1) * size * min_replicas < queries
    everywhere = blocks.per_replica * size * min_replicas
    assert (blocks.per_replica - 2) * size >= in_flight or everywhere >= queries
    assert queries_per_block in (None, size)


@pytest.mark.parametrize(
    ("queries", "replicas", "queries_per_block"),
    [(10**5, 32, 25), (10**6, 32, 250), (10**7, 32, 256), (10**6, 1000, 15), (2000, 1, 16), (2000, 8, 3), (100, 8, 1)],
)
def test_blocks_are_small_beside_the_run(queries: int, replicas: int, queries_per_block: int) -> None:
    assert plan_blocks(queries, replicas, replicas, 256).queries_per_block == queries_per_block


@pytest.mark.parametrize(("queries", "queries_per_file"), [(100, 1), (32_000, 16), (10**6, 500)])
def test_files_stay_few(queries: int, queries_per_file: int) -> None:
    assert plan_blocks(queries, 1, 1, 256).queries_per_file == queries_per_file


@given(st.integers(1, 10_000))
def test_some_windows_wait_beside_those_the_engine_holds(windows: int) -> None:
    assert windows < with_headroom(windows) <= windows * 1.125 + 1
