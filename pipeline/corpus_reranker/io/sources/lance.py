"""The input format "lance": a version of a Lance dataset, without deleted rows, read by the package pylance."""

import hashlib
import json
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


def open_lance(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open the version `input.version` of the Lance dataset at `input.path`; None: the latest.

    Raises:
        ConfigError: pylance is not installed.
        InputError: there is no such dataset or version, or its schema does not fit.
    """
    check_options(settings, ())
    url, version = redact(settings.path), version_number(settings)
    with reading_table(f"Lance dataset {url}{'' if version is None else f' version {version}'}"):
        dataset = _load(settings.path, storage, version)
        fragments = [fragment.metadata for fragment in dataset.get_fragments()]
    # A dataset has no id of its own. The names of its data files and the ids of its deletion files are unique.
    content = [([file.path for file in each.files], repr(each.deletion_file)) for each in fragments]
    opened = TableVersion(
        name=f"Lance dataset {url} version {dataset.version}",
        schema=dataset.schema,
        read=partial(_read, settings.path, storage, dataset.version),
        fingerprint={
            "format": "lance",
            "fragments": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16],
            "version": str(dataset.version),
        },
        size_bytes=sum(file.file_size_bytes or 0 for fragment in fragments for file in fragment.files),
    )
    return open_table(opened, settings)


def _load(url: str, storage: StorageConfig, version: int | None) -> Any:
    location, options = object_store_location(url, storage)
    return import_extra("lance", "lance").dataset(location, version=version, storage_options=options)


def _read(url: str, storage: StorageConfig, version: int, rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    yield from _load(url, storage, version).to_batches(batch_size=rows_per_batch, scan_in_order=True)
