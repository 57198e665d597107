"""A block of a round: its queries with their limits, and none of the others."""

import pyarrow as pa

from corpus_reranker.dataflow.block import with_window_limits


def test_a_block_has_only_the_queries_of_the_round_with_their_limits() -> None:
    block = pa.table({"query_id": ["a", "b", "c"], "query": ["x", "y", "z"]})
    limits = pa.table(
        {"query_id": pa.chunked_array([["c"], ["a", "d"]]), "max_windows": pa.array([6, 3, 1], pa.int32())}
    )
    assert with_window_limits(block, limits).to_pylist() == [
        {"query_id": "a", "query": "x", "max_windows": 3},
        {"query_id": "c", "query": "z", "max_windows": 6},
    ]
    assert with_window_limits(block, limits.slice(2)).num_rows == 0
