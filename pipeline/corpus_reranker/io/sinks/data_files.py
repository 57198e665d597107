"""The data files at the top of an output folder. They, not the checkpoint, are the truth of what is done.

What a crash can leave there, with Ray Data 2.60's checkpoints (ray/data/_internal/planner/checkpoint/plan_write_op.py:
pending checkpoint, data file, then a rename of the checkpoint):
- a torn file, on file systems where a file is seen while it is written; it ends in no Parquet magic;
- the same query in two files: a write task that outlived its killed driver, or a query that was retried;
- a committed checkpoint whose data file was deleted: on S3 a rename is copy and delete, and a crash between the two
  leaves the pending checkpoint, for which Ray's recovery deletes the finished data file.
So before each pass torn and double rows go, and the checkpoint is written anew from the rows that are there.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo, FileSystem

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import brief, join, list_files, retry_transient_errors
from corpus_reranker.io.schemas import QUERY_ID

T = TypeVar("T")

IO_THREADS = 16
PARQUET_MAGIC = b"PAR1"
TAIL_BYTES = 4096
"""Read of a file's end; enough for the body of an S3 error, see filesystems.TRANSIENT_ERRORS."""
BEST_FIRST = pa.array(["complete", "degraded", "failed"])


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """What a manifest says of one data file."""

    name: str
    rows: int
    bytes: int
    queries_by_status: Counter[str]
    windows_by_status: Counter[str]
    prompt_tokens: int
    output_tokens: int


def list_data_files(filesystem: FileSystem, folder: str) -> list[FileInfo]:
    """Data files of an output folder, newest first."""
    files = [info for info in list_files(filesystem, folder) if is_data_file(info.base_name)]
    return sorted(files, key=lambda info: (-(info.mtime_ns or 0), info.path))


def is_data_file(name: str) -> bool:
    """Whether a reader that takes a folder of Parquet files would take this one."""
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def reconcile(filesystem: FileSystem, folder: str, work_folder: str) -> pa.Table:
    """Make the data files hold each query once, and return what they hold: columns query_id and status.

    Of a query that is there twice the better status stays, then the newer file. Only files that hold a row too many
    are written again, whole, beside the output in `work_folder` and then moved over the old one; each row that goes
    has its twin in place, so a crash at any point loses nothing and the next call goes on. Safe to repeat.
    """
    infos = list_data_files(filesystem, folder)
    truncated = set(_in_parallel(lambda info: info.path if is_truncated(filesystem, info) else None, infos))
    for info in infos:
        if info.path in truncated:
            filesystem.delete_file(info.path)
    infos = [info for info in infos if info.path not in truncated]
    tables = _in_parallel(lambda info: _read(filesystem, info.path, [QUERY_ID, "status"]), infos)
    rows = _rows(tables)
    surplus = _surplus(rows)
    if surplus.num_rows:
        for part in pc.unique(surplus["part"]).to_pylist():
            positions = surplus.filter(pc.equal(surplus["part"], part))["row"]
            _drop_rows(filesystem, infos[part].path, positions, work_folder)
        rows = _without(rows, surplus)
    return rows.select([QUERY_ID, "status"])


def write_checkpoint(filesystem: FileSystem, folder: str, query_ids: pa.ChunkedArray) -> None:
    """Make the Ray Data checkpoint in `folder` say that exactly `query_ids` are done."""
    filesystem.create_dir(folder, recursive=True)
    old = [info.path for info in list_files(filesystem, folder, recursive=True)]
    if len(query_ids):
        path = join(folder, f"done-{uuid.uuid4().hex}.parquet")
        pq.write_table(pa.table({QUERY_ID: query_ids}), path, filesystem=filesystem)
    for path in old:
        filesystem.delete_file(path)


def summarize_data_files(filesystem: FileSystem, folder: str) -> list[ManifestEntry]:
    """Facts of all data files, by name. Reads their status and token columns only."""
    info = _in_parallel(lambda info: _info(filesystem, info), list_data_files(filesystem, folder))
    return sorted(info, key=lambda each: each.name)


def count_statuses(filesystem: FileSystem, folder: str) -> Counter[str]:
    """Queries by status in the data files as they are now; a file that is just being written is not counted."""

    def statuses(info: FileInfo) -> Counter[str]:
        if is_truncated(filesystem, info):
            return Counter()
        return count_values(_read(filesystem, info.path, ["status"])["status"])

    return sum(_in_parallel(statuses, list_data_files(filesystem, folder)), Counter())


def _in_parallel(function: Callable[[FileInfo], T], infos: Sequence[FileInfo]) -> list[T]:
    with ThreadPoolExecutor(IO_THREADS) as pool:
        return list(pool.map(function, infos))


@retry_transient_errors
def is_truncated(filesystem: FileSystem, info: FileInfo) -> bool:
    """Parquet ends in its magic, written last. A file that cannot be read at all is no proof of being torn."""
    if info.size < 3 * len(PARQUET_MAGIC):
        return True
    with filesystem.open_input_file(info.path) as file:
        file.seek(max(info.size - TAIL_BYTES, 0))
        return not bytes(file.read()).endswith(PARQUET_MAGIC)


def _read(filesystem: FileSystem, path: str, columns: list[str] | None = None) -> pa.Table:
    try:
        return _read_with_retries(filesystem, path, columns)
    except (pa.ArrowException, OSError) as error:
        fix = "if it is damaged, delete it and run again: its queries will be reranked"
        raise OutputError(f"cannot read {path}: {brief(error)}; {fix}") from error


@retry_transient_errors
def _read_with_retries(filesystem: FileSystem, path: str, columns: list[str] | None) -> pa.Table:
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=columns, use_threads=False)


def _rows(tables: Iterable[pa.Table]) -> pa.Table:
    numbered = [
        pa.table(
            {
                QUERY_ID: table[QUERY_ID].cast(pa.string()),
                "status": table["status"].cast(pa.string()),
                "part": pa.repeat(pa.scalar(part, pa.int32()), table.num_rows),
                "row": pa.array(np.arange(table.num_rows, dtype=np.int32)),
            }
        )
        for part, table in enumerate(tables)
    ]
    names = {QUERY_ID: pa.string(), "status": pa.string(), "part": pa.int32(), "row": pa.int32()}
    return pa.concat_tables(numbered) if numbered else pa.schema(names).empty_table()


def _surplus(rows: pa.Table) -> pa.Table:
    """The rows of queries that are there more than once, less the best of each."""
    if pc.count_distinct(rows[QUERY_ID]).as_py() == rows.num_rows:
        return rows.slice(0, 0)
    counts = rows.group_by(QUERY_ID).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))[QUERY_ID]
    duplicates = rows.filter(pc.is_in(rows[QUERY_ID], value_set=repeated.combine_chunks()))
    duplicates = duplicates.append_column("worse", pc.index_in(duplicates["status"], value_set=BEST_FIRST))
    duplicates = duplicates.sort_by(
        [(QUERY_ID, "ascending"), ("worse", "ascending"), ("part", "ascending"), ("row", "ascending")]
    )
    ids = duplicates[QUERY_ID].combine_chunks()
    same_as_before = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    return duplicates.filter(pa.array([False, *same_as_before.to_pylist()]))


def _without(rows: pa.Table, surplus: pa.Table) -> pa.Table:
    key = ["part", "row"]
    return rows.join(surplus.select(key), keys=key, join_type="left anti")


def _drop_rows(filesystem: FileSystem, path: str, positions: pa.ChunkedArray, work_folder: str) -> None:
    table = _read(filesystem, path)
    dropped = pc.is_in(pa.array(np.arange(table.num_rows, dtype=np.int32)), value_set=positions.combine_chunks())
    kept = table.filter(pc.invert(dropped))
    if kept.num_rows == 0:
        filesystem.delete_file(path)
        return
    filesystem.create_dir(work_folder, recursive=True)
    written = join(work_folder, f"{uuid.uuid4().hex}.parquet")
    pq.write_table(kept, written, filesystem=filesystem)
    filesystem.move(written, path)


def _info(filesystem: FileSystem, info: FileInfo) -> ManifestEntry:
    leaf = "windows.list.element."
    table = _read(filesystem, info.path, ["status", f"{leaf}status", f"{leaf}prompt_tokens", f"{leaf}output_tokens"])
    windows = pc.list_flatten(table["windows"])
    status, prompt_tokens, output_tokens = (
        pa.chunked_array([pc.struct_field(chunk, name) for chunk in windows.chunks], type_)
        for name, type_ in (("status", pa.string()), ("prompt_tokens", pa.int64()), ("output_tokens", pa.int64()))
    )
    return ManifestEntry(
        info.base_name,
        table.num_rows,
        info.size,
        count_values(table["status"]),
        count_values(status),
        pc.sum(prompt_tokens).as_py() or 0,
        pc.sum(output_tokens).as_py() or 0,
    )


def count_values(column: pa.ChunkedArray) -> Counter[str]:
    """How often each value is in the column."""
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()})
