"""The input format "delta": a version of a Delta table, read by the package deltalake.

deltalake applies the deletion vectors, the column mapping and the partition columns of that version.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.table_version import (
    TableVersion,
    check_options,
    open_table,
    reading_table,
    version_number,
)
from corpus_reranker.io.table_storage import object_store_location
from corpus_reranker.plugins import import_extra


def open_delta(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open the version `input.version` of the Delta table at `input.path`; None: the latest.

    Raises:
        ConfigError: deltalake is not installed.
        InputError: there is no such table or version, or its schema does not fit.
    """
    check_options(settings, ())
    url, version = redact(settings.path), version_number(settings)
    with reading_table(f"Delta table {url}{'' if version is None else f' version {version}'}"):
        table = _load(settings.path, storage, version)
        actions = pa.table(table.get_add_actions())
        table_id = table.metadata().id
        schema = pa.schema(table.schema().to_arrow())
    opened = TableVersion(
        name=f"Delta table {url} version {table.version()}",
        schema=schema,
        read=partial(_read, settings.path, storage, table.version()),
        fingerprint={"format": "delta", "table": table_id, "version": str(table.version())},
        size_bytes=sum(actions["size_bytes"].to_pylist()),
    )
    return open_table(opened, settings)


def _load(url: str, storage: StorageConfig, version: int | None) -> Any:
    location, options = object_store_location(url, storage)
    return import_extra("deltalake", "delta").DeltaTable(location, version=version, storage_options=options)


def _read(url: str, storage: StorageConfig, version: int, rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    """Read the files in order, with one partition. Options: datafusion.apache.org/user-guide/configs.html."""
    session = {
        "datafusion.execution.target_partitions": "1",
        "datafusion.execution.batch_size": str(rows_per_batch),
    }
    query = import_extra("deltalake", "delta").QueryBuilder(session).register("input", _load(url, storage, version))
    yield from pa.RecordBatchReader.from_stream(query.execute("SELECT * FROM input"))
