"""Copies an input to nested Parquet files, once for an output. A run reads them block by block."""

import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.io.filesystem import delete_folder, join, list_files, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import ParquetFiles, Source
from corpus_reranker.io.sources.parquet import read_nested_files

ROWS_PER_GROUP = 256
ROWS_PER_FILE = 1024
COMPLETE = "_SUCCESS"


def stage(
    source: Source,
    folder_url: str,
    settings: InputConfig,
    storage: StorageConfig,
    limit: int | None = None,
    digests: Mapping[str, str] | None = None,
) -> ParquetFiles:
    """Return nested Parquet files with the queries of `source`.

    If the source has such files and there is no limit, these are returned. Otherwise, the queries are copied to a new
    folder in `folder_url`; a later call for the same source and limit finds the copy. Each copy has its own folder,
    because a driver that was paused past its lease may still be copying.

    Args:
        source: The input.
        folder_url: Folder for the copies.
        settings: The settings with which `source` was opened.
        storage: How to reach `folder_url`.
        limit: Number of queries, taken from the start of the input; None for all.
        digests: Name -> digest of each file of the input.

    Raises:
        InputError: the input cannot be read, or its tables are not in nested form.
    """
    if source.nested_files is not None and limit is None:
        return source.nested_files
    bounds = {"limit": limit, "max_candidates": settings.max_candidates}
    content = json.dumps({**source.fingerprint_fields(), **bounds, "files": dict(digests or {})}).encode()
    name = _find_copy(content, folder_url, storage)
    if name is None:
        name = uuid.uuid4().hex
        filesystem, folder = resolve(join(folder_url, name), storage)
        try:
            _write(head(source.tables(), limit), filesystem, folder)
        except BaseException:
            delete_folder(filesystem, folder)  # the resumed run makes a new copy
            raise
        open_object_store(folder_url, storage).write(join(name, COMPLETE), content)
    return read_nested_files(InputConfig(path=join(folder_url, name)), storage)


def _find_copy(content: bytes, folder_url: str, storage: StorageConfig) -> str | None:
    """The name of a folder that holds a complete copy of `content`."""
    filesystem, folder = resolve(folder_url, storage)
    control = open_object_store(folder_url, storage)
    for info in list_files(filesystem, folder, recursive=True):
        if info.base_name == COMPLETE:
            name = str(info.path).split("/")[-2]
            copied = control.read(join(name, COMPLETE))
            if copied is not None and copied.body == content:
                return name
    return None


def head(tables: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """The first `limit` rows; None for all."""
    if limit is None:
        yield from tables
        return
    remaining = limit
    for table in tables:
        yield table.slice(0, remaining)
        remaining -= min(remaining, table.num_rows)
        if remaining == 0:
            return


def _write(tables: Iterable[pa.Table], filesystem: FileSystem, folder: str) -> None:
    """Write at least one file. Files have about ROWS_PER_FILE rows, so that several tasks can read them in parallel."""
    filesystem.create_dir(folder, recursive=True)
    row_groups = (
        table.slice(start, ROWS_PER_GROUP) for table in tables for start in range(0, table.num_rows, ROWS_PER_GROUP)
    )
    for number in itertools.count():
        first = next(row_groups, None if number else NESTED_INPUT.empty_table())
        if first is None:
            return
        path, rows = join(folder, f"part-{number:06}.parquet"), 0
        with pq.ParquetWriter(path, first.schema, filesystem=filesystem, compression="zstd") as writer:
            for table in itertools.chain([first], row_groups):
                writer.write_table(table)
                rows += table.num_rows
                if rows >= ROWS_PER_FILE:
                    break
