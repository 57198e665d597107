"""A block of queries: which of its rows a replica reranks, and the block of their results."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.io import schemas
from corpus_reranker.io.calibration import Calibration
from corpus_reranker.io.request_fingerprint import request_fingerprints
from corpus_reranker.types import ShownInput


def with_window_limits(block: pa.Table, limits: pa.Table | None) -> pa.Table:
    """The rows of `block` whose query is in `limits`, with their limit in the column max_windows; None: all rows."""
    if limits is None:
        return block
    query_ids = block[schemas.QUERY_ID]  # `is_in` builds a hash table of these ids only, not of all queries
    limits = limits.filter(pc.is_in(limits[schemas.QUERY_ID], value_set=query_ids.combine_chunks()))
    found = pc.index_in(query_ids, value_set=limits[schemas.QUERY_ID].combine_chunks())
    limited = block.append_column(schemas.MAX_WINDOWS, limits[schemas.MAX_WINDOWS].take(found))
    return limited.filter(pc.is_valid(found))


def result_block(
    block: pa.Table,
    results: Sequence[Mapping[str, Any] | None],
    schema: pa.Schema | None,
    shown: ShownInput,
    calibration: Calibration | None,
) -> pa.Table:
    """The results of the rows of `block`, in the same order.

    Args:
        block: Rows of checked queries.
        results: The result's columns of each row; None skips the row.
        schema: Schema of the returned table; None derives it from `block`.
        shown: What the prompt template shows besides query and passages.
        calibration: Gives `p_relevant`; None leaves it null.
    """
    if None in results:
        block = block.filter(pa.array([result is not None for result in results]))
    rows = [result for result in results if result is not None]
    schema = schema or schemas.output_schema(block.drop_columns([schemas.PROBLEM]).schema, {})
    return schemas.output_table(rows, block, schema, request_fingerprints(block, shown), calibration)
