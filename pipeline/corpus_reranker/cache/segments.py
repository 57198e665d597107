"""Segments of the completion store: immutable Arrow IPC files, each with the index of its rows in its footer.

A segment is written once, as a whole. A file that cannot be read as a segment, because it was truncated or something
else wrote it, is ignored. So is a row whose bytes have changed: the index has a checksum of each row.
"""

import contextlib
import io
import re
import threading
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow.fs import FileInfo, FileSystem

from corpus_reranker.io.filesystem import join, list_files

STORED_COMPLETIONS = pa.schema(
    [
        ("key", pa.binary(32)),
        ("written_at", pa.int64()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("choice_logprobs", pa.list_(pa.float64())),
    ]
)
"""One row per completion. `key` is the SHA-256 of everything that determines it, `written_at` the time in seconds since
1970. Neither prompts nor passages are stored."""

_ROWS_PER_BATCH = 8
"""Number of rows that a cache hit reads and decompresses: about 12 kB of ReasonRank's responses."""

_INDEX = b"corpus_reranker.completions.2"
"""Metadata key of the index, an array of _ENTRY."""

_ENTRY = np.dtype([("hash", "<u8"), ("checksum", "<u4")])
"""The first 8 bytes of the key of a row, and the CRC-32 of the row."""

_NAME = re.compile(r"(\d{12})-[0-9a-f]{32}\.arrow")


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file that may be a segment. `written_at` is the time of its last row, in seconds since 1970."""

    name: str
    written_at: int
    size_bytes: int


def list_segments(filesystem: FileSystem, folder: str) -> list[SegmentFile]:
    """The files in `folder` with the name of a segment, oldest first."""
    return [segment for info in list_files(filesystem, folder) if (segment := _segment_file(info))]


def _segment_file(info: FileInfo) -> SegmentFile | None:
    name = _NAME.fullmatch(info.base_name)
    return SegmentFile(info.base_name, int(name[1]), info.size) if name else None


def new_segment_name(written_at: int) -> str:
    """A name that no other segment has, for a segment whose last row was written at this time."""
    return f"{written_at:012}-{uuid.uuid4().hex}.arrow"


def encode_segment(rows: pa.Table) -> bytes:
    """The content of a segment with these rows, which have the schema STORED_COMPLETIONS."""
    index = np.empty(rows.num_rows, _ENTRY)
    index["hash"] = hashes_of(rows["key"].to_pylist())
    index["checksum"] = [_checksum(row) for batch in rows.to_batches() for row in batch.to_pylist()]
    schema = STORED_COMPLETIONS.with_metadata({_INDEX: index.tobytes().hex()})
    body = io.BytesIO()
    with pa.ipc.new_file(body, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows.replace_schema_metadata(schema.metadata), max_chunksize=_ROWS_PER_BATCH)
    return body.getvalue()


def hashes_of(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each key. The index uses them as the hash of the key."""
    return np.frombuffer(b"".join(key[:8] for key in keys), np.uint64)


def _checksum(row: Mapping[str, Any]) -> int:
    return zlib.crc32(repr([row[name] for name in STORED_COMPLETIONS.names]).encode("utf-8", "surrogatepass"))


class Segment:
    """An open segment. Safe to use from several threads."""

    def __init__(self, filesystem: FileSystem, folder: str, name: str) -> None:
        """Read the footer.

        Raises:
            ValueError: The file is truncated, or not a segment.
            OSError: It cannot be read.
        """
        self._lock = threading.Lock()
        with _damage_as_value_error():
            self._reader = pa.ipc.open_file(filesystem.open_input_file(join(folder, name)))
        metadata = self._reader.schema.metadata or {}
        if _INDEX not in metadata or self._reader.schema.remove_metadata() != STORED_COMPLETIONS:
            raise ValueError(f"{name} is not a segment of completions")
        self._index = np.frombuffer(bytes.fromhex(metadata[_INDEX].decode()), _ENTRY)

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """The first 8 bytes of the key of each row."""
        return np.ascontiguousarray(self._index["hash"])

    def row(self, number: int) -> dict[str, Any]:
        """One row. Raises as the constructor does, and ValueError if the row is not as it was written."""
        batch_number, position = divmod(number, _ROWS_PER_BATCH)
        rows = self._batch(batch_number).slice(position, 1).to_pylist()
        if len(rows) != 1 or _checksum(rows[0]) != self._index["checksum"][number]:
            raise ValueError(f"row {number} of a segment is damaged")
        row: dict[str, Any] = rows[0]
        return row

    def rows(self) -> pa.Table:
        """All rows. Raises as `row` does."""
        batches = [self._batch(number) for number in range(self._reader.num_record_batches)]
        rows = [row for batch in batches for row in batch.to_pylist()]
        if [_checksum(row) for row in rows] != self._index["checksum"].tolist():
            raise ValueError("a row of a segment is damaged")
        return pa.Table.from_batches(batches, self._reader.schema).replace_schema_metadata()

    def _batch(self, number: int) -> pa.RecordBatch:
        """A batch whose offsets and texts have been checked, because reading damaged ones would crash the process."""
        with _damage_as_value_error():
            with self._lock:
                batch = self._reader.get_batch(number)
            batch.validate(full=True)
        return batch


@contextlib.contextmanager
def _damage_as_value_error() -> Iterator[None]:
    """Raise ValueError for pyarrow's errors about the bytes of a file. Errors of a store have an errno or a name."""
    try:
        yield
    except (IndexError, pa.ArrowException) as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if error.errno is not None or "AWS Error" in str(error):
            raise
        raise ValueError(str(error)) from error
