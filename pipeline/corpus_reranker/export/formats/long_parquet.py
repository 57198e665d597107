"""Parquet in long form: one row per candidate."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.export.formats.base import ExportContext, ExportFile, WriteBatch
from corpus_reranker.io.calibration import P_RELEVANT

LONG_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""One row per candidate, best first within a query."""


CALIBRATED_SCHEMA = LONG_SCHEMA.append(pa.field(P_RELEVANT, pa.float64()))
"""LONG_SCHEMA for documents with `p_relevant`."""


class LongParquet:
    """One Parquet file of LONG_SCHEMA, with the metadata of the output, for each data file."""

    def __init__(self, context: ExportContext) -> None:
        schema = CALIBRATED_SCHEMA if context.calibrated else LONG_SCHEMA
        self._schema = schema.with_metadata(dict(context.metadata))

    def files(self, name: str) -> list[ExportFile]:
        return [ExportFile(f"{name}.parquet", self._open)]

    @contextmanager
    def _open(self, stream: Any) -> Iterator[WriteBatch]:
        with pq.ParquetWriter(stream, self._schema, compression="zstd") as writer:

            def write(batch: pa.RecordBatch) -> int:
                table = long_rows(batch, self._schema)
                writer.write_table(table)
                return len(table)

            yield write


def long_rows(batch: pa.RecordBatch, schema: pa.Schema = LONG_SCHEMA) -> pa.Table:
    """Rows of the schema: queries in the batch's order, the documents of each query by rank."""
    entries = pc.list_flatten(batch["ranking"])
    query = pc.list_parent_indices(batch["ranking"])
    columns = [pc.struct_field(entries, name).cast(schema.field(name).type) for name in schema.names[1:]]
    table = pa.table([batch["query_id"].cast(pa.string()).take(query), *columns, query], names=[*schema.names, "query"])
    ordered = table.sort_by([("query", "ascending"), ("rank", "ascending")])
    return ordered.select(schema.names).cast(schema)
