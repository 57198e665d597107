"""Parquet in long form: one row per candidate."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.export.candidate_texts import CandidateTexts
from corpus_reranker.export.formats.base import ExportFile, WriteBatch
from corpus_reranker.export.settings import ExportConfig

LONG_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""One row per candidate, best first within a query."""


class LongParquet:
    """One Parquet file of LONG_SCHEMA for each data file."""

    def __init__(self, config: ExportConfig, texts: CandidateTexts | None) -> None: ...

    def files(self, name: str) -> list[ExportFile]:
        return [ExportFile(f"{name}.parquet", _open_parquet)]


@contextmanager
def _open_parquet(stream: Any) -> Iterator[WriteBatch]:
    with pq.ParquetWriter(stream, LONG_SCHEMA, compression="zstd") as writer:

        def write(batch: pa.RecordBatch) -> int:
            table = long_rows(batch)
            writer.write_table(table)
            return len(table)

        yield write


def long_rows(batch: pa.RecordBatch) -> pa.Table:
    """Rows of LONG_SCHEMA: queries in the batch's order, the documents of each query by rank."""
    entries = pc.list_flatten(batch["ranking"])
    query = pc.list_parent_indices(batch["ranking"])
    columns = [pc.struct_field(entries, name).cast(LONG_SCHEMA.field(name).type) for name in LONG_SCHEMA.names[1:]]
    table = pa.table(
        [batch["query_id"].cast(pa.string()).take(query), *columns, query], names=[*LONG_SCHEMA.names, "query"]
    )
    ordered = table.sort_by([("query", "ascending"), ("rank", "ascending")])
    return ordered.select(LONG_SCHEMA.names).cast(LONG_SCHEMA)
