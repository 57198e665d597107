"""The input format "iceberg": a snapshot of an Iceberg table, read by the package pyiceberg.

pyiceberg applies position delete files, and refuses equality delete files.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.iceberg_catalog import load_iceberg_catalog
from corpus_reranker.io.secrets import redact, secret_option
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.table_version import (
    TableVersion,
    open_table,
    reading_table,
    version_number,
)
from corpus_reranker.io.table_storage import iceberg_properties
from corpus_reranker.plugins import import_extra


def open_iceberg(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open the snapshot `input.version` of a table; None: the current one.

    `input.path` is the name of the table in the catalog `input.options.catalog`, or the URL of a `.metadata.json` file.
    pyiceberg finds catalogs in its own configuration (`.pyiceberg.yaml`, `PYICEBERG_CATALOG__...`). The other options
    are added as properties of the catalog. The section `storage` applies to files on S3.

    Raises:
        ConfigError: pyiceberg is not installed, or a property holds a secret.
        InputError: there is no such table or snapshot, or its schema does not fit.
    """
    catalog = settings.options.get("catalog")
    properties = {name: value for name, value in settings.options.items() if name != "catalog"}
    if secret := secret_option(properties):
        raise ConfigError(
            f"input.options.{secret} may hold a secret, which the output would store; set it in .pyiceberg.yaml or as"
            " PYICEBERG_CATALOG__... in the environment"
        )
    url, snapshot_id = redact(settings.path), version_number(settings)
    with reading_table(f"Iceberg table {url}"):
        table = _load(settings.path, catalog, properties, storage)
        snapshot = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    if snapshot is None:
        found = (
            "no snapshot yet" if snapshot_id is None else f"no snapshot {snapshot_id}; it has expired, or never existed"
        )
        raise InputError(f"Iceberg table {url} has {found}")
    name = f"Iceberg table {url} snapshot {snapshot.snapshot_id}"
    with reading_table(name):
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
        tasks = list(scan.plan_files())
        to_arrow = partial(import_extra("pyiceberg.io.pyarrow", "iceberg").schema_to_pyarrow, include_field_ids=False)
        schema = to_arrow(scan.projection())
        is_current_schema = schema == to_arrow(table.schema())
    if snapshot_id is None and not is_current_schema:
        raise InputError(
            f"the columns of Iceberg table {url} changed after its last snapshot {snapshot.snapshot_id}; write to it"
            f" first, or set input.version={snapshot.snapshot_id} to read that snapshot with its own columns"
        )
    opened = TableVersion(
        name=name,
        schema=schema,
        read=partial(_read, settings.path, catalog, properties, storage, snapshot.snapshot_id),
        fingerprint={
            "format": "iceberg",
            "table": str(table.metadata.table_uuid),
            "version": str(snapshot.snapshot_id),
        },
        size_bytes=sum(task.file.file_size_in_bytes for task in tasks),
    )
    return open_table(opened, settings)


def _load(path: str, catalog: str | None, properties: Mapping[str, Any], storage: StorageConfig) -> Any:
    if path.endswith(".metadata.json"):
        table_class = import_extra("pyiceberg.table", "iceberg").StaticTable
        return table_class.from_metadata(path, {**iceberg_properties(storage), **properties})
    return load_iceberg_catalog(catalog, properties, storage).load_table(path)


def _read(
    path: str,
    catalog: str | None,
    properties: Mapping[str, Any],
    storage: StorageConfig,
    snapshot_id: int,
    rows_per_batch: int,
) -> Iterator[pa.RecordBatch]:
    """Read one data file at a time. `to_arrow_batch_reader` would load many files at once."""
    scan = _load(path, catalog, properties, storage).scan(snapshot_id=snapshot_id)
    arrow_scan = import_extra("pyiceberg.io.pyarrow", "iceberg").ArrowScan(
        scan.table_metadata, scan.io, scan.projection(), scan.row_filter
    )
    for task in scan.plan_files():
        for batch in arrow_scan.to_record_batches([task]):
            yield from (batch.slice(start, rows_per_batch) for start in range(0, batch.num_rows, rows_per_batch))
