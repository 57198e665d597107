"""From an input in long form, or the head of one, to a nested copy that a job can read block by block.

Bounded memory: rows stream through; only where a query's rows lie apart are they first spread over files in TMPDIR.
For 1.8 GB of rows the process grows to 390 MB where they lie together, to 1.1 GB where they do not.
"""

import itertools
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import brief, delete_folder, join, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.schemas import CANDIDATES, LONG_INPUT, QUERY_ID
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.parquet import Input, check_input, read_ids

ROWS_PER_BATCH = 4096
"""Rows of the long form read at once; of the nested form, whose rows are a hundred times as large, 1 in 64 of that."""
ROWS_PER_GROUP = 256
ROWS_PER_FILE = 1024
PARTITION_BYTES = 64 * 2**20
"""Of the rows that are sorted in memory at once, as they are encoded; in memory they are larger."""

MAX_PARTITIONS = 512
"""Files open at once while rows are spread over them."""

COMPLETE = "_SUCCESS"


def as_nested_input(
    source: Input, folder_url: str, settings: InputConfig, storage: StorageConfig, limit: int | None = None
) -> Input:
    """`source` itself if it is nested and wanted whole; else a nested copy of it (its first `limit` queries).

    The copy lies in `folder_url` and is made once: a later call for the same source finds it. Long rows become a
    query's list in order of `rank` if there is such a column, else of falling score, ties by doc_id; its query and
    other columns are those of its first candidate. Raises InputError.
    """
    if source.form == "nested" and limit is None:
        return source
    control = open_object_store(folder_url, storage)
    wanted = json.dumps(
        {**source.fingerprint_fields(), "limit": limit, "max_candidates": settings.max_candidates}
    ).encode()
    done = control.read(COMPLETE)
    if done is None or done.body != wanted:
        filesystem, folder = resolve(folder_url, storage)
        delete_folder(filesystem, folder)
        tables = group_by_query(source, settings) if source.form == "long" else _batches(source)
        _write(_head(tables, limit), filesystem, folder)
        control.write(COMPLETE, wanted)
    return check_input(settings.model_copy(update={"path": folder_url}), storage)


def group_by_query(source: Input, settings: InputConfig) -> Iterator[pa.Table]:
    """Nested tables of a long input, a few queries each.

    A query with too many candidates keeps one more than allowed, enough for its row to say so.
    """
    tables = _batches(source) if _is_contiguous(source) else _sorted_on_disk(source)
    open_query: pa.Table | None = None
    for table in tables:
        table = pa.concat_tables([open_query, table]) if open_query is not None else table
        starts = _run_starts(table[QUERY_ID])
        if len(starts) > 1:
            yield _group(table.slice(0, int(starts[-1])), starts[:-1], settings.max_candidates)
        open_query = table.slice(int(starts[-1])).slice(0, settings.max_candidates + 1)
    if open_query is not None:
        yield _group(open_query, np.zeros(1, dtype=np.int64), settings.max_candidates)


def _batches(source: Input) -> Iterator[pa.Table]:
    """Rows of all files in order."""
    rows_per_batch = ROWS_PER_BATCH if source.form == "long" else max(ROWS_PER_BATCH // 64, 1)
    for path in source.paths:
        try:
            with source.filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
                for batch in file.iter_batches(rows_per_batch):
                    if batch.num_rows:
                        yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} cannot be read: {brief(error)}") from error


def _is_contiguous(source: Input) -> bool:
    """Whether every query's rows lie together. Raises InputError for a row without a query_id."""
    runs: list[pa.Array] = []
    for path in source.paths:
        for ids in read_ids(source.filesystem, path):
            starts = ids.take(pa.array(_run_starts(ids)))
            if runs and len(starts) and runs[-1][-1] == starts[0]:
                starts = starts.slice(1)
            runs += [starts] if len(starts) else []
    ids_of_runs = pa.chunked_array(runs, pa.string())
    return bool(pc.count_distinct(ids_of_runs).as_py() == len(ids_of_runs))


def _run_starts(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Positions at which the id differs from the one before; the first is 0."""
    if len(ids) < 2:
        return np.zeros(len(ids), dtype=np.int64)
    changes = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    return np.concatenate([[0], pc.indices_nonzero(changes).to_numpy().astype(np.int64) + 1])


def _sorted_on_disk(source: Input) -> Iterator[pa.Table]:
    """Spread rows by a hash of their query over files that fit in memory, then give each file's rows sorted."""
    total_bytes = sum(file.unpacked_bytes for file in source.files)
    num_partitions = min(-(-total_bytes // PARTITION_BYTES) or 1, MAX_PARTITIONS)
    with tempfile.TemporaryDirectory(prefix="reranker-") as folder:
        paths = [Path(folder) / f"{number}.arrow" for number in range(num_partitions)]
        writers = [pa.ipc.new_file(str(path), source.schema) for path in paths]
        try:
            for table in _batches(source):
                ids = table[QUERY_ID].combine_chunks().dictionary_encode()
                partitions = np.array(
                    [zlib.crc32(each.encode()) % num_partitions for each in ids.dictionary.to_pylist()]
                )
                row_partitions = partitions[ids.indices.to_numpy()]
                for number in np.unique(row_partitions):
                    writers[number].write_table(table.filter(pa.array(row_partitions == number)).cast(source.schema))
        except OSError as error:
            fix = "sort the input by query_id, or set TMPDIR to a larger disk"
            raise InputError(f"cannot sort the input's rows by query in {folder}: {error}; {fix}") from error
        finally:
            for writer in writers:
                writer.close()
        for path in paths:
            with pa.OSFile(str(path)) as spilled:
                table = pa.ipc.open_file(spilled).read_all()
                if table.num_rows:
                    yield table.sort_by(QUERY_ID)


def _group(table: pa.Table, starts: np.ndarray, max_candidates: int) -> pa.Table:
    """One row a run of `table`, its candidates sorted; `starts` are the runs' first positions."""
    lengths = np.diff(np.append(starts, table.num_rows))
    order = [("_run", "ascending")]
    order += [("rank", "ascending")] if "rank" in table.column_names else [("score", "descending")]
    run_of_row = pa.array(np.repeat(np.arange(len(starts)), lengths))
    indices = pc.sort_indices(table.append_column("_run", run_of_row), sort_keys=[*order, ("doc_id", "ascending")])
    # Row by row to the limit: only now is known which candidates come first.
    position_in_run = np.arange(table.num_rows) - np.repeat(starts, lengths)
    table = table.take(indices.filter(pa.array(position_in_run <= max_candidates)))
    lengths = np.minimum(lengths, max_candidates + 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    names = [name for name in ("doc_id", "text", "title", "score") if name in table.column_names]
    columns = [table[name].cast(LONG_INPUT.field(name).type).combine_chunks() for name in names]
    candidates = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(columns, names))
    first = table.take(pa.array(offsets[:-1]))
    passed_through = [name for name in first.column_names if name not in LONG_INPUT.names]
    ids = {name: first[name].cast(pa.string()) for name in (QUERY_ID, "query")}
    return pa.table({**ids, CANDIDATES: candidates, **{name: first[name] for name in passed_through}})


def _head(tables: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    left = limit
    for table in tables:
        yield table if left is None else table.slice(0, left)
        if left is not None:
            left -= min(left, table.num_rows)
            if left == 0:
                return


def _write(tables: Iterable[pa.Table], filesystem: FileSystem, folder: str) -> None:
    """Files of about ROWS_PER_FILE rows, so that there is something to read in parallel."""
    filesystem.create_dir(folder, recursive=True)
    pieces = (
        table.slice(start, ROWS_PER_GROUP) for table in tables for start in range(0, table.num_rows, ROWS_PER_GROUP)
    )
    for number in itertools.count():
        first = next(pieces, None)
        if first is None:
            return
        path, rows = join(folder, f"part-{number:06}.parquet"), 0
        with pq.ParquetWriter(path, first.schema, filesystem=filesystem, compression="zstd") as writer:
            for table in itertools.chain([first], pieces):
                writer.write_table(table)
                rows += table.num_rows
                if rows >= ROWS_PER_FILE:
                    break
