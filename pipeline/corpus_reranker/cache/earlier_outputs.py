"""Rows of earlier outputs that may be copied, and an index that finds them."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError, OutputError, TransientRunError
from corpus_reranker.io.calibration import Calibration
from corpus_reranker.io.filesystem import IO_THREADS, resolve, retry_transient_errors
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.schemas import QUERY_ID, RESULT
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import RowLimits, StorageConfig
from corpus_reranker.io.sinks.data_files import list_data_files
from corpus_reranker.io.sinks.layout import SUCCESS
from corpus_reranker.io.sinks.run_record import describe_changes, read_run
from corpus_reranker.io.storage_errors import brief
from corpus_reranker.types import NOTHING_SHOWN, QueryStatus, ShownInput

REQUEST_FINGERPRINT = "request_fingerprint"

_MAX_NAMED_CHANGES = 3
"""Maximum number of changed settings in a warning."""

_RUN_FIELDS = frozenset({"input", "limit", "calibration"})
"""Fingerprint fields of a run that do not determine the ranking of a query."""

_KEYS = [QUERY_ID, REQUEST_FINGERPRINT, "status"]


@dataclass(frozen=True, slots=True)
class ReuseRequest:
    """What may be copied.

    Attributes:
        urls: Earlier outputs. A row is copied from the first of them that has it.
        statuses: Statuses of rows that may be copied.
        reranker: The fingerprint fields of the reranker, which must be those of the earlier outputs.
        keep_reasoning: Copy reasoning; outputs without reasoning are not reused. If false, the copies have none.
        storage: How to reach the outputs.
        row_limits: What makes an input row a failed row.
        shown: What prompts show of a row beyond its query, titles and texts.
        calibration: Gives the copies their `p_relevant`. The earlier outputs may have had another calibration.
    """

    urls: Sequence[str]
    statuses: Sequence[QueryStatus]
    reranker: Mapping[str, Any]
    keep_reasoning: bool
    storage: StorageConfig
    row_limits: RowLimits
    shown: ShownInput = NOTHING_SHOWN
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class EarlierFile:
    """A data file of the earlier output at `url`."""

    url: str
    filesystem: FileSystem
    path: str


@dataclass(frozen=True, slots=True)
class RowIndex:
    """Locations of the earlier rows: sorted hashes, each with the number of its file and its row there."""

    files: Sequence[EarlierFile]
    hashes: npt.NDArray[np.uint64]
    file_numbers: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]

    def find(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The position of each hash in the index; -1 for a hash that is not in it."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        positions = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[positions] == hashes, positions, -1)


def open_index(request: ReuseRequest, finished: pa.ChunkedArray) -> tuple[RowIndex, list[str]]:
    """The index of the rows that may be copied, and the reason for each output that was skipped.

    Args:
        request: What may be copied.
        finished: Ids of queries that need no row.
    """
    files: list[EarlierFile] = []
    pieces: list[pa.Table] = []
    reasons = []
    for url in request.urls:
        try:
            found = _open_output(url, request)
            with ThreadPoolExecutor(IO_THREADS) as pool:
                tables = list(pool.map(lambda file: _read_keys(file, request.statuses), found))
        except (InputError, OutputError, TransientRunError, pa.ArrowException, OSError) as error:
            reasons.append(f"{redact(url)} is not reused: {brief(error)}")
            continue
        for number, table in enumerate(tables, len(files)):
            pieces.append(table.append_column("file", pa.repeat(pa.scalar(number, pa.int32()), table.num_rows)))
        files += found
    return _index(files, pieces, finished), reasons


def _index(files: Sequence[EarlierFile], pieces: Sequence[pa.Table], finished: pa.ChunkedArray) -> RowIndex:
    if not pieces:
        return RowIndex(files, np.array([], np.uint64), np.array([], np.int32), np.array([], np.int32))
    rows = pa.concat_tables(pieces)
    if len(finished):
        rows = rows.filter(pc.invert(pc.is_in(rows[QUERY_ID], value_set=finished)))
    hashes, first = np.unique(row_hashes(rows[QUERY_ID], rows[REQUEST_FINGERPRINT]), return_index=True)
    return RowIndex(files, hashes, rows["file"].to_numpy()[first], rows["row"].to_numpy()[first])


def _open_output(url: str, request: ReuseRequest) -> list[EarlierFile]:
    """The data files of an earlier output. Raises InputError if its rows cannot be reused."""
    control = open_object_store(url, request.storage)
    record = read_run(control)
    if record is None or control.read(SUCCESS) is None:
        raise InputError("its run has not finished" if record else "there is no output")
    earlier = {name: value for name, value in record.fingerprint_fields.items() if name not in _RUN_FIELDS}
    if changes := describe_changes(earlier, request.reranker):
        more = "; ..." if len(changes) > _MAX_NAMED_CHANGES else ""
        raise InputError(f"another reranker ({'; '.join(changes[:_MAX_NAMED_CHANGES])}{more})")
    if request.keep_reasoning and not record.info.get("keep_reasoning"):
        raise InputError("it holds no reasoning, and output.keep_reasoning is set")
    filesystem, folder = resolve(url, request.storage)
    return [EarlierFile(redact(url), filesystem, info.path) for info in list_data_files(filesystem, folder)]


@retry_transient_errors
def _read_keys(file: EarlierFile, statuses: Sequence[QueryStatus]) -> pa.Table:
    """Id, fingerprint and row number of the rows with these statuses."""
    with file.filesystem.open_input_file(file.path) as opened, pq.ParquetFile(opened) as parquet:
        if missing := [name for name in RESULT.names if name not in parquet.schema_arrow.names]:
            raise InputError(f"{file.path} has no column {', '.join(missing)}: another version wrote it")
        table = parquet.read(columns=_KEYS, use_threads=False)
    table = table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int32)))
    wanted = pc.and_(pc.is_in(table["status"], value_set=pa.array(statuses)), pc.is_valid(table[REQUEST_FINGERPRINT]))
    return table.filter(wanted).select([QUERY_ID, REQUEST_FINGERPRINT, "row"])


def row_hashes(query_ids: pa.ChunkedArray, fingerprints: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """A hash of the id and the request fingerprint of each row."""
    pairs = zip(query_ids.to_pylist(), fingerprints.to_pylist(), strict=True)
    digests = (hashlib.blake2b(f"{each}\0{query_id}".encode(), digest_size=8).digest() for query_id, each in pairs)
    return np.frombuffer(b"".join(digests), np.uint64)
