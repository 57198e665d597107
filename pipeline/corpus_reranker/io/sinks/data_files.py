"""The data files of an output. Only those of its run decide which queries are finished.

A data file is written once, under a unique name, into the folder of its run. The commit moves it to the top of the
output folder. A crash can leave:
- a truncated file, on filesystems that show a file while it is written; it does not end in the Parquet magic;
- duplicates: a write task outlived its killed driver, or a query was retried or got more windows;
- a file both in the folder of its run and at the top, on stores that cannot rename.
Before each pass, truncated files and duplicates are deleted.
"""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo, FileSystem

from corpus_reranker.array_types import BoolArray
from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import IO_THREADS, delete_files, join, list_files, retry_transient_errors
from corpus_reranker.io.schemas import BUDGET, MAX_WINDOWS, QUERY_ID
from corpus_reranker.io.sinks.failure_reasons import FailureReasons
from corpus_reranker.io.sinks.layout import SUCCESS, Layout, data_file_prefix, parts_folder
from corpus_reranker.io.sinks.run_record import find_run_id
from corpus_reranker.io.storage_errors import brief

A = TypeVar("A")
T = TypeVar("T")

PARQUET_MAGIC = b"PAR1"
TAIL_BYTES = 4096
"""Size of the read at a file's end. The body of an S3 error fits into it: see filesystem.retry_transient_errors."""
_REPLACED_BYTES = 128 * 2**20
"""Total size of the files that are replaced concurrently. Their rows take several times as much memory; the driver's
subprocess has eight gigabytes."""
_GROUP_BYTES = 2**20
"""Size of a group of files that one file replaces. Writing a file takes about as much CPU time as 100 kB of rows."""
BEST_FIRST = ("complete", "degraded", "failed")
_KEYS = pa.schema([(QUERY_ID, pa.string()), ("status", pa.string()), (MAX_WINDOWS, pa.int32())])
"""The columns that decide which row of a query is kept."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One data file in the manifest. Tokens of reused queries are not counted: this run did not spend them."""

    name: str
    rows: int
    bytes: int
    queries_by_status: Counter[str]
    windows_by_status: Counter[str]
    windows_by_flag: Counter[str]
    blank_candidates: int
    duplicate_candidates: int
    reused_queries: int
    prompt_tokens: int
    output_tokens: int
    failures: FailureReasons


@dataclass(frozen=True, slots=True)
class _File:
    """A data file. `is_kept` has a value for each row."""

    path: str
    bytes: int
    is_kept: BoolArray


def list_data_files(filesystem: FileSystem, folder: str) -> list[FileInfo]:
    """Data files at the top of a folder, newest first: what a reader of the folder sees."""
    files = [info for info in list_files(filesystem, folder) if is_data_file(info.base_name)]
    return sorted(files, key=lambda info: (-(info.mtime_ns or 0), info.path))


def list_run_files(filesystem: FileSystem, folder: str, run_id: str) -> list[FileInfo]:
    """Data files of a run, newest first, whether they have been published or not."""
    published = list_data_files(filesystem, folder)
    files = published + list_data_files(filesystem, join(folder, parts_folder(run_id)))
    run_files = [info for info in files if info.base_name.startswith(data_file_prefix(run_id))]
    return sorted(run_files, key=lambda info: (-(info.mtime_ns or 0), info.path))


def list_results(filesystem: FileSystem, folder: str) -> list[FileInfo]:
    """The data files that hold the results, newest first. They include those of a run that is not committed yet."""
    run_id = find_run_id(filesystem, folder)
    if not run_id or filesystem.get_file_info(join(folder, SUCCESS)).is_file:
        return list_data_files(filesystem, folder)
    return list_run_files(filesystem, folder, run_id)


def is_data_file(name: str) -> bool:
    """Whether a reader of a folder of Parquet files reads this one."""
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def reconcile(layout: Layout, confirm: Callable[[], None]) -> tuple[pa.Table, dict[str, int]]:
    """Drop truncated files and duplicate rows, so that the data files of the run hold each query once.

    The row of a query that is kept is, in a run with a budget, the one with the highest limit of windows, then the one
    with the best status, then the one in the newest file. Files with a row to drop are replaced by new files with their
    other rows. The row that is kept is already written, so a crash at any point loses nothing. Safe to repeat.

    Args:
        layout: The output.
        confirm: Called before each deletion of files that were listed before; raises if the lease is lost.

    Returns:
        The rows of the data files, with the columns query_id and status; and the size of each file in bytes, by path.
    """
    filesystem = layout.filesystem
    infos = list_run_files(filesystem, layout.folder, layout.run_id)
    keys = _in_parallel(lambda info: _read_keys(filesystem, info), infos)
    if truncated := [info.path for info, table in zip(infos, keys, strict=True) if table is None]:
        confirm()
        delete_files(filesystem, truncated)
    whole = [(info, table) for info, table in zip(infos, keys, strict=True) if table is not None]
    rows = pa.concat_tables([_KEYS.empty_table(), *(table for _, table in whole)])
    is_best = _is_best_of_query(rows)
    ends = np.cumsum([table.num_rows for _, table in whole], dtype=np.int64)
    files = [_File(info.path, info.size, rows) for (info, _), rows in zip(whole, np.split(is_best, ends), strict=False)]
    sizes = {file.path: file.bytes for file in files if file.is_kept.all()}
    if groups := _in_groups([file for file in files if file.path not in sizes]):
        at_a_time = _REPLACED_BYTES // max(sum(file.bytes for file in group) for group in groups)
        for replacement in _in_parallel(lambda group: _replace(layout, group, confirm), groups, at_a_time):
            sizes |= replacement
    return rows.filter(pa.array(is_best)).select([QUERY_ID, "status"]), sizes


def summarize_data_files(filesystem: FileSystem, files: Mapping[str, int]) -> list[ManifestEntry]:
    """The manifest entries of data files, sorted by name. `files` maps paths to sizes. Reads no rankings or texts."""
    entries = _in_parallel(lambda path: _entry(filesystem, path, files[path]), list(files))
    return sorted(entries, key=lambda each: each.name)


def read_window_counts(filesystem: FileSystem, paths: Sequence[str]) -> tuple[pa.Table, Counter[str]]:
    """Read what the budget of a run needs from its data files.

    Returns:
        The rows, with the columns query_id, status, stability, max_windows and windows (their number); and the sums of
        attempts, prompt_tokens and output_tokens over all windows of all rows.
    """
    schema = pa.schema([*_KEYS, ("stability", pa.float64()), ("windows", pa.int32())])
    summed = ["attempts", "prompt_tokens", "output_tokens"]
    columns = [*schema.names[:-1], *(f"windows.list.element.{name}" for name in summed)]

    def counts(path: str) -> tuple[pa.Table, Counter[str]]:
        table = _read(filesystem, path, columns)
        windows = table["windows"].combine_chunks()
        flat, lengths = windows.flatten(), pc.list_value_length(windows)
        rows = pa.table([*(table[name] for name in schema.names[:-1]), lengths], schema=schema)
        return rows, Counter({name: pc.sum(flat.field(name)).as_py() or 0 for name in summed})

    found = _in_parallel(counts, paths)
    totals: Counter[str] = sum((totals for _, totals in found), Counter())
    return pa.concat_tables([schema.empty_table(), *(rows for rows, _ in found)]), totals


def count_statuses(filesystem: FileSystem, infos: Sequence[FileInfo]) -> Counter[str]:
    """Number of queries by status in data files; truncated files are not counted."""

    def statuses(info: FileInfo) -> Counter[str]:
        table = _read_unless_truncated(filesystem, info, ["status"])
        return Counter() if table is None else count_values(table["status"])

    return sum(_in_parallel(statuses, infos), Counter())


def _in_parallel(function: Callable[[A], T], arguments: Sequence[A], at_a_time: int = IO_THREADS) -> list[T]:
    with ThreadPoolExecutor(max(1, min(at_a_time, IO_THREADS))) as pool:
        return list(pool.map(function, arguments))


@retry_transient_errors
def is_truncated(filesystem: FileSystem, info: FileInfo) -> bool:
    """Whether a file does not end in the Parquet magic, which is written last. Raises OSError if it cannot be read.

    True for a file that does not exist, because some stores list deleted files for a while.
    """
    if info.size < 3 * len(PARQUET_MAGIC):
        return True
    try:
        with filesystem.open_input_file(info.path) as file:
            file.seek(max(info.size - TAIL_BYTES, 0))
            return not bytes(file.read()).endswith(PARQUET_MAGIC)
    except FileNotFoundError:
        return True


def _read_unless_truncated(filesystem: FileSystem, info: FileInfo, columns: list[str]) -> pa.Table | None:
    """Read columns of a file; None if it is truncated. This is checked only if the file cannot be read."""
    try:
        return _read(filesystem, info.path, columns)
    except OutputError:
        if is_truncated(filesystem, info):
            return None
        raise


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


def _read_keys(filesystem: FileSystem, info: FileInfo) -> pa.Table | None:
    """The rows of a data file by the schema _KEYS; None if the file is truncated."""
    table = _read_unless_truncated(filesystem, info, _KEYS.names)
    if table is None:
        return None
    return pa.table([table[QUERY_ID], table["status"], _max_windows(table)], schema=_KEYS)


def _max_windows(table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """The limit of each row; 0 without a budget, even if the input has a column with this name."""
    has_budget = BUDGET.encode() in (table.schema.metadata or {})
    return table[MAX_WINDOWS] if has_budget else pa.array(np.zeros(table.num_rows, np.int32))


def _is_best_of_query(rows: pa.Table) -> BoolArray:
    """Whether each row is the best one of its query."""
    is_best = np.ones(rows.num_rows, np.bool_)
    if pc.count_distinct(rows[QUERY_ID]).as_py() == rows.num_rows:
        return is_best
    counts = rows.group_by(QUERY_ID).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))[QUERY_ID]
    rows = rows.append_column("position", pa.array(np.arange(rows.num_rows)))
    duplicates = rows.filter(pc.is_in(rows[QUERY_ID], value_set=repeated.combine_chunks()))
    status_rank = pc.index_in(duplicates["status"], value_set=pa.array(BEST_FIRST))
    duplicates = duplicates.append_column("status_rank", status_rank)
    duplicates = duplicates.sort_by(
        [
            (QUERY_ID, "ascending"),
            (MAX_WINDOWS, "descending"),
            ("status_rank", "ascending"),
            ("position", "ascending"),
        ]
    )
    ids = duplicates[QUERY_ID].combine_chunks()
    same_as_before = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    is_best[duplicates["position"].to_numpy()[1:][same_as_before]] = False
    return is_best


def _in_groups(files: Sequence[_File]) -> list[list[_File]]:
    """Consecutive files in groups of about _GROUP_BYTES."""
    groups: defaultdict[int, list[_File]] = defaultdict(list)
    before = 0
    for file in files:
        groups[before // _GROUP_BYTES].append(file)
        before += file.bytes
    return list(groups.values())


def _replace(layout: Layout, files: Sequence[_File], confirm: Callable[[], None]) -> dict[str, int]:
    """Replace files by one file with all rows to keep, if there are any. Returns the sizes of new files by path.

    Files of another version of the package, whose schema or metadata differs, are replaced by a separate file.
    """
    filesystem, sizes = layout.filesystem, {}
    tables = [_read(filesystem, file.path).filter(pa.array(file.is_kept)) for file in files]
    for _, alike in groupby(tables, key=lambda table: (table.schema, table.schema.metadata)):
        kept = pa.concat_tables(alike)
        if kept.num_rows:
            path = layout.new_data_file()
            filesystem.create_dir(layout.parts_folder, recursive=True)
            pq.write_table(kept, path, filesystem=filesystem)
            sizes[path] = filesystem.get_file_info(path).size
    confirm()
    delete_files(filesystem, [file.path for file in files])
    return sizes


def _entry(filesystem: FileSystem, path: str, size: int) -> ManifestEntry:
    types = {"status": pa.string(), "prompt_tokens": pa.int64(), "output_tokens": pa.int64()}
    types["flags"] = pa.list_(pa.string())
    columns = ["status", "error", "blank_candidates", "duplicate_candidates", "reused_from"]
    table = _read(filesystem, path, [*columns, *(f"windows.list.element.{name}" for name in types)])
    windows = pc.list_flatten(table["windows"])
    reranked = pc.is_null(table["reused_from"]).take(pc.list_parent_indices(table["windows"].combine_chunks()))
    status, prompt_tokens, output_tokens, flags = (
        pa.chunked_array([pc.struct_field(chunk, name) for chunk in windows.chunks], type_)
        for name, type_ in types.items()
    )
    return ManifestEntry(
        posixpath.basename(path),
        table.num_rows,
        size,
        count_values(table["status"]),
        count_values(status),
        count_values(pc.list_flatten(flags)),
        pc.sum(table["blank_candidates"]).as_py() or 0,
        pc.sum(table["duplicate_candidates"]).as_py() or 0,
        pc.count(table["reused_from"]).as_py(),
        pc.sum(prompt_tokens.filter(reranked)).as_py() or 0,
        pc.sum(output_tokens.filter(reranked)).as_py() or 0,
        FailureReasons.of(table["error"].filter(pc.equal(table["status"], "failed")).to_pylist()),
    )


def count_values(column: pa.ChunkedArray) -> Counter[str]:
    """Number of occurrences of each value."""
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()})
