"""The data files of an output. Those of its run alone decide which queries are finished.

A data file is written once, under a unique name, into the folder of its run. The commit moves it to the top of the
output folder. A crash can leave:
- a truncated file, on filesystems that show a file while it is written; it does not end in the Parquet magic;
- duplicates: a write task outlived its killed driver, or a query was retried or got more windows;
- a file both in the folder of its run and at the top, on stores that cannot rename.
Before each pass, truncated files and duplicates are deleted.
"""

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo, FileSystem

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
"""Size of the read at a file's end; enough for the body of an S3 error, see filesystem.retry_transient_errors."""
_REPLACED_BYTES = 128 * 2**20
"""Size of the files that are replaced at a time. Their rows take several times as much memory, of the eight gigabytes
that the driver's subprocess has."""
BEST_FIRST = ("complete", "degraded", "failed")


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


def list_data_files(filesystem: FileSystem, folder: str) -> list[FileInfo]:
    """Data files at the top of a folder, newest first: what a reader of the folder sees."""
    files = [info for info in list_files(filesystem, folder) if is_data_file(info.base_name)]
    return sorted(files, key=lambda info: (-(info.mtime_ns or 0), info.path))


def list_run_files(filesystem: FileSystem, folder: str, run_id: str) -> list[FileInfo]:
    """Data files of a run, newest first, whether they have been published or not."""
    published = list_data_files(filesystem, folder)
    files = published + list_data_files(filesystem, join(folder, parts_folder(run_id)))
    of_run = [info for info in files if info.base_name.startswith(data_file_prefix(run_id))]
    return sorted(of_run, key=lambda info: (-(info.mtime_ns or 0), info.path))


def list_results(filesystem: FileSystem, folder: str) -> list[FileInfo]:
    """The data files that hold the results, newest first: also those of a run that has not been committed."""
    run_id = find_run_id(filesystem, folder)
    if not run_id or filesystem.get_file_info(join(folder, SUCCESS)).is_file:
        return list_data_files(filesystem, folder)
    return list_run_files(filesystem, folder, run_id)


def is_data_file(name: str) -> bool:
    """Whether a reader of a folder of Parquet files reads this one."""
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def reconcile(layout: Layout, confirm: Callable[[], None]) -> tuple[pa.Table, dict[str, int]]:
    """Make the data files of the run hold each query once.

    Among duplicates, the row with the higher limit of windows is kept, if the run has a budget; then the row with the
    better status, then the row in the newer file. A file with a row to drop is replaced by a new file, or by none.
    Every dropped row has a duplicate that is already written, so a crash at any point loses nothing. Safe to repeat.

    Args:
        layout: The output.
        confirm: Called before each deletion of files that were listed before; raises if the lease is lost.

    Returns:
        What the data files hold, columns query_id and status; and the size of each file in bytes, by path.
    """
    filesystem = layout.filesystem
    infos = list_run_files(filesystem, layout.folder, layout.run_id)
    truncated = [path for path in _in_parallel(lambda info: _path_if_truncated(filesystem, info), infos) if path]
    if truncated:
        confirm()
        delete_files(filesystem, truncated)
    sizes = {info.path: info.size for info in infos if info.path not in set(truncated)}
    paths = list(sizes)
    rows = _rows(_in_parallel(lambda path: _read(filesystem, path, [QUERY_ID, "status", MAX_WINDOWS]), paths))
    dropped = _duplicates_to_drop(rows)
    if dropped.num_rows:
        files = pc.unique(dropped["file"]).to_pylist()

        def rewrite(file: int) -> str:
            return _drop_rows(layout, paths[file], dropped.filter(pc.equal(dropped["file"], file))["row"], confirm)

        at_a_time = _REPLACED_BYTES // max(sizes[paths[file]] for file in files)
        for file, replacement in zip(files, _in_parallel(rewrite, files, at_a_time), strict=True):
            paths[file] = replacement
        rows = _without(rows, dropped)
    written = [path for path in paths if path and path not in sizes]
    sizes |= dict(zip(written, _in_parallel(lambda path: filesystem.get_file_info(path).size, written), strict=True))
    return rows.select([QUERY_ID, "status"]), {path: sizes[path] for path in paths if path}


def summarize_data_files(filesystem: FileSystem, files: Mapping[str, int]) -> list[ManifestEntry]:
    """The manifest entries of data files with their sizes, by name. Reads only their status and token columns."""
    entries = _in_parallel(lambda path: _entry(filesystem, path, files[path]), list(files))
    return sorted(entries, key=lambda each: each.name)


def read_window_counts(filesystem: FileSystem, paths: Sequence[str], *, with_tokens: bool) -> pa.Table:
    """What a budget needs of each row in the data files of a run that has one.

    Returns:
        Columns query_id, status, stability, max_windows, windows, and the sums over all windows: requested, which is
        the number of requests, and tokens, prompt and output together. Without `with_tokens`, tokens is 0.
    """
    names = [QUERY_ID, "status", "stability", MAX_WINDOWS]

    def counts(path: str) -> pa.Table:
        summed = ["attempts", *(["prompt_tokens", "output_tokens"] if with_tokens else [])]
        table = _read(filesystem, path, [*names, *(f"windows.list.element.{name}" for name in summed)])
        windows = table["windows"].combine_chunks()
        of_row = pc.list_parent_indices(windows).to_numpy()
        fields = (pc.fill_null(pc.struct_field(pc.list_flatten(windows), name), 0).to_numpy() for name in summed)
        requested, *tokens = (
            np.bincount(of_row, values, minlength=table.num_rows).astype(np.int64) for values in fields
        )
        own = table.select(names).append_column("windows", pc.list_value_length(windows).cast(pa.int32()))
        own = own.append_column("requested", pa.array(requested))
        return own.append_column("tokens", pa.array(sum(tokens, np.zeros_like(requested)))).replace_schema_metadata()

    types = [pa.string(), pa.string(), pa.float64(), pa.int32(), pa.int32(), pa.int64(), pa.int64()]
    empty = pa.schema(zip([*names, "windows", "requested", "tokens"], types, strict=True)).empty_table()
    return pa.concat_tables([empty, *(table.cast(empty.schema) for table in _in_parallel(counts, paths))])


def count_statuses(filesystem: FileSystem, infos: Sequence[FileInfo]) -> Counter[str]:
    """Number of queries by status in data files; truncated files are not counted."""

    def statuses(info: FileInfo) -> Counter[str]:
        if is_truncated(filesystem, info):
            return Counter()
        return count_values(_read(filesystem, info.path, ["status"])["status"])

    return sum(_in_parallel(statuses, infos), Counter())


def _in_parallel(function: Callable[[A], T], arguments: Sequence[A], at_a_time: int = IO_THREADS) -> list[T]:
    with ThreadPoolExecutor(max(1, min(at_a_time, IO_THREADS))) as pool:
        return list(pool.map(function, arguments))


def _path_if_truncated(filesystem: FileSystem, info: FileInfo) -> str | None:
    return info.path if is_truncated(filesystem, info) else None


@retry_transient_errors
def is_truncated(filesystem: FileSystem, info: FileInfo) -> bool:
    """Whether a file lacks the Parquet magic at its end, which is written last. Raises OSError if it cannot be read.

    True for a file that does not exist: the LIST of some stores shows deleted files for a while.
    """
    if info.size < 3 * len(PARQUET_MAGIC):
        return True
    try:
        with filesystem.open_input_file(info.path) as file:
            file.seek(max(info.size - TAIL_BYTES, 0))
            return not bytes(file.read()).endswith(PARQUET_MAGIC)
    except FileNotFoundError:
        return True


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
                MAX_WINDOWS: _max_windows(table),
                "file": pa.repeat(pa.scalar(file, pa.int32()), table.num_rows),
                "row": pa.array(np.arange(table.num_rows, dtype=np.int32)),
            }
        )
        for file, table in enumerate(tables)
    ]
    names = {QUERY_ID: pa.string(), "status": pa.string(), MAX_WINDOWS: pa.int32()}
    names |= {"file": pa.int32(), "row": pa.int32()}
    return pa.concat_tables(numbered) if numbered else pa.schema(names).empty_table()


def _max_windows(table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """The limit of each row; 0 without a budget, also if a column of the input has this name."""
    has_budget = BUDGET.encode() in (table.schema.metadata or {})
    return table[MAX_WINDOWS] if has_budget else pa.array(np.zeros(table.num_rows, np.int32))


def _duplicates_to_drop(rows: pa.Table) -> pa.Table:
    """All duplicates but the best row of each query."""
    if pc.count_distinct(rows[QUERY_ID]).as_py() == rows.num_rows:
        return rows.slice(0, 0)
    counts = rows.group_by(QUERY_ID).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))[QUERY_ID]
    duplicates = rows.filter(pc.is_in(rows[QUERY_ID], value_set=repeated.combine_chunks()))
    status_rank = pc.index_in(duplicates["status"], value_set=pa.array(BEST_FIRST))
    duplicates = duplicates.append_column("status_rank", status_rank)
    duplicates = duplicates.sort_by(
        [
            (QUERY_ID, "ascending"),
            (MAX_WINDOWS, "descending"),
            ("status_rank", "ascending"),
            ("file", "ascending"),
            ("row", "ascending"),
        ]
    )
    ids = duplicates[QUERY_ID].combine_chunks()
    same_as_before = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    return duplicates.filter(pa.array([False, *same_as_before.to_pylist()]))


def _without(rows: pa.Table, dropped: pa.Table) -> pa.Table:
    key = ["file", "row"]
    return rows.join(dropped.select(key), keys=key, join_type="left anti")


def _drop_rows(layout: Layout, path: str, positions: pa.ChunkedArray, confirm: Callable[[], None]) -> str:
    """Replace a file by one without these rows, and return its path; empty if no row is left."""
    filesystem, replacement = layout.filesystem, ""
    table = _read(filesystem, path)
    is_dropped = pc.is_in(pa.array(np.arange(table.num_rows, dtype=np.int32)), value_set=positions.combine_chunks())
    kept = table.filter(pc.invert(is_dropped))
    if kept.num_rows:
        replacement = layout.new_data_file()
        filesystem.create_dir(layout.parts_folder, recursive=True)
        pq.write_table(kept, replacement, filesystem=filesystem)
    confirm()
    delete_files(filesystem, [path])
    return replacement


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
