"""The result cache: copies rows of earlier outputs for queries whose request and reranker have not changed.

Two rows match if query id and request fingerprint are equal. The join reads every file once, and keeps no text of
passages:

1. An index of the earlier rows is built, with 16 bytes for each row, sorted by a hash of id and fingerprint.
2. The input is read in batches. A row that is in the index keeps only its scores and the columns that pass through. It
   is spilled to one of a few temporary files, chosen by the data file of its earlier row.
3. Each temporary file is read back, and the earlier rows are copied from their data files, one batch at a time.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.cache.earlier_outputs import (
    REQUEST_FINGERPRINT,
    EarlierFile,
    ReuseRequest,
    RowIndex,
    open_index,
    row_hashes,
)
from corpus_reranker.io.calibration import with_p_relevant
from corpus_reranker.io.request_fingerprint import request_fingerprints
from corpus_reranker.io.schemas import CANDIDATES, PROBLEM, QUERY_ID, RESULT
from corpus_reranker.io.sinks.base import Sink
from corpus_reranker.io.sources.arrow_types import struct_field
from corpus_reranker.io.sources.base import ParquetFile, ParquetFiles
from corpus_reranker.io.sources.parquet import ROWS_PER_BATCH
from corpus_reranker.io.sources.parquet_files import read_row_groups, reading
from corpus_reranker.io.sources.rows import check_batch
from corpus_reranker.io.storage_errors import brief
from corpus_reranker.types import ShownInput

_SPILL_FILES = 64
"""Maximum number of temporary files. The rows of one file are in memory at once: 16,000 of a million rows."""

_READ_THREADS = 4
"""Row groups of the input that are read concurrently, each in batches of up to 64 MiB."""

_COPIED_ROWS = 256
"""Earlier rows in memory, and in a row group of the copy. A row with reasoning takes about 100 kB."""


def copy_reusable_rows(
    request: ReuseRequest, candidates: ParquetFiles, finished: pa.ChunkedArray, sink: Sink, schema: pa.Schema
) -> list[str]:
    """Write earlier rows that are valid for queries of the input as data files of the run.

    An output that cannot be reused is skipped. If two rows have the same hash, only one is copied.

    Args:
        request: What may be copied.
        candidates: The input.
        finished: Ids of queries that need no row.
        sink: Where the rows are written.
        schema: The output schema.

    Returns:
        The reason for each output or file that was skipped.
    """
    index, reasons = open_index(request, finished)
    if len(index.hashes):
        with ExitStack() as stack:
            spill = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(min(_SPILL_FILES, len(index.files)))]
            _spill(_matches(candidates, index, request), spill)
            for file in spill:
                if file.seek(0, 2):
                    file.seek(0)
                    with pa.ipc.open_stream(file) as stream:
                        matched = stream.read_all()
                    sink.write_file(_copies(matched, index.files, schema, request, reasons), schema)
    return reasons


def _matches(candidates: ParquetFiles, index: RowIndex, request: ReuseRequest) -> Iterator[pa.Table]:
    """The rows of the input that are in the index, without their candidates."""

    def read(piece: tuple[ParquetFile, int]) -> list[pa.Table]:
        file, group = piece
        with reading(file.path):
            tables = read_row_groups(candidates, file, [group], ROWS_PER_BATCH)
            return [_match(check_batch(table, request.row_limits), index, request.shown) for table in tables]

    pieces = [(file, group) for file in candidates.files for group in range(len(file.row_groups))]
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        for start in range(0, len(pieces), _READ_THREADS):
            for tables in pool.map(read, pieces[start : start + _READ_THREADS]):
                yield from tables


def _match(table: pa.Table, index: RowIndex, shown: ShownInput) -> pa.Table:
    table = table.append_column(REQUEST_FINGERPRINT, request_fingerprints(table, shown)).filter(
        pc.is_null(table[PROBLEM])
    )
    positions = index.find(row_hashes(table[QUERY_ID], table[REQUEST_FINGERPRINT]))
    table, positions = table.filter(pa.array(positions >= 0)), positions[positions >= 0]
    columns = {
        "_file": pa.array(index.file_numbers[positions]),
        "_row": pa.array(index.rows[positions]),
        "_scores": _scores(table[CANDIDATES]),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table.drop_columns([CANDIDATES, PROBLEM])


def _scores(candidates: pa.ChunkedArray) -> pa.ListArray:
    """The first-stage scores of each row's candidates, without duplicate candidates; null for NaN."""
    lists = candidates.combine_chunks()
    structs, rows = pc.list_flatten(lists), pc.list_parent_indices(lists)
    scores = struct_field(structs, "score")
    doc_ids = struct_field(structs, "doc_id").cast(pa.large_string())
    flat = pa.table({"row": rows, "doc_id": doc_ids, "position": np.arange(len(structs))})
    first = flat.group_by(["row", "doc_id"]).aggregate([("position", "min")])["position_min"].to_numpy()
    first = np.sort(first)
    values = scores.cast(pa.float64()).take(pa.array(first))
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    counts = np.bincount(rows.to_numpy()[first], minlength=len(lists))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), values)


def _spill(tables: Iterator[pa.Table], files: Sequence[IO[bytes]]) -> None:
    """Write each row to the temporary file of its data file."""
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    with ExitStack() as stack:
        for table in tables:
            numbers = table["_file"].to_numpy() % len(files)
            for number in np.unique(numbers).tolist():
                if number not in writers:
                    writers[number] = stack.enter_context(pa.ipc.new_stream(files[number], table.schema))
                writers[number].write_table(table.filter(pa.array(numbers == number)))


def _copies(
    matched: pa.Table, files: Sequence[EarlierFile], schema: pa.Schema, request: ReuseRequest, reasons: list[str]
) -> Iterator[pa.Table]:
    """The output rows of matched rows. A file that cannot be read is skipped, and listed in `reasons`."""
    matched = matched.sort_by([("_file", "ascending"), ("_row", "ascending")])
    numbers = matched["_file"].to_numpy()
    for number in np.unique(numbers).tolist():
        start, end = np.searchsorted(numbers, [number, number + 1]).tolist()
        try:
            yield from _copies_of_file(matched.slice(start, end - start), files[number], schema, request)
        except (pa.ArrowException, OSError) as error:
            reasons.append(f"{files[number].path} is not reused: {brief(error)}")


def _copies_of_file(
    matched: pa.Table, file: EarlierFile, schema: pa.Schema, request: ReuseRequest
) -> Iterator[pa.Table]:
    rows, first = matched["_row"].to_numpy(), 0
    with file.filesystem.open_input_file(file.path) as opened, pq.ParquetFile(opened) as parquet:
        for batch in parquet.iter_batches(_COPIED_ROWS, columns=RESULT.names):
            start, end = np.searchsorted(rows, [first, first + batch.num_rows]).tolist()
            if start < end:
                taken = pa.Table.from_batches([batch]).take(pa.array(rows[start:end] - first))
                earlier = taken.select(RESULT.names).cast(RESULT)
                yield _copy(earlier, matched.slice(start, end - start), file.url, schema, request)
            first += batch.num_rows


def _copy(earlier: pa.Table, matched: pa.Table, url: str, schema: pa.Schema, request: ReuseRequest) -> pa.Table:
    """Earlier rows with the scores, probabilities and other columns of this input. Hash collisions are left out."""
    same = pc.and_(
        pc.equal(earlier[QUERY_ID], matched[QUERY_ID].cast(pa.string())),
        pc.and_(
            pc.equal(earlier[REQUEST_FINGERPRINT], matched[REQUEST_FINGERPRINT]),
            pc.equal(pc.list_value_length(earlier["ranking"]), pc.list_value_length(matched["_scores"])),
        ),
    )
    earlier, matched = earlier.filter(same), matched.filter(same)
    columns: dict[str, Callable[[], pa.Array]] = {
        "ranking": lambda: with_p_relevant(
            _with_initial_scores(earlier["ranking"], matched["_scores"]),
            earlier["status"].combine_chunks(),
            request.calibration,
        ),
        "windows": lambda: earlier["windows"] if request.keep_reasoning else _without_reasoning(earlier["windows"]),
        "reused_from": lambda: pc.fill_null(earlier["reused_from"], url),
    }
    arrays = [
        columns[name]() if name in columns else (earlier if name in RESULT.names else matched)[name]
        for name in schema.names
    ]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema
    )


def _with_initial_scores(rankings: pa.ChunkedArray, scores: pa.ChunkedArray) -> pa.Array:
    lists, values = rankings.combine_chunks(), scores.combine_chunks()
    starts = np.cumsum(pc.list_value_length(values).to_numpy()) - pc.list_value_length(values).to_numpy()
    ranks = pc.struct_field(pc.list_flatten(lists), "initial_rank").to_numpy()
    positions = starts[pc.list_parent_indices(lists).to_numpy()] + ranks - 1
    return _with_field(lists, "initial_score", pc.list_flatten(values).take(pa.array(positions)))


def _without_reasoning(windows: pa.ChunkedArray) -> pa.Array:
    lists = windows.combine_chunks()
    return _with_field(lists, "reasoning", pa.nulls(len(pc.list_flatten(lists)), pa.string()))


def _with_field(lists: pa.ListArray, name: str, values: pa.Array) -> pa.Array:
    """Lists of structs whose field `name` has other values."""
    structs = pc.list_flatten(lists)
    fields = list(structs.type)
    arrays = [values if field.name == name else pc.struct_field(structs, field.name) for field in fields]
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=fields))
