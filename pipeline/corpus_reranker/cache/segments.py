"""Segments of the completion store: immutable Arrow IPC files, each with the index of its rows in its footer.

A segment is written once, as a whole. A file that cannot be read as one, because it was truncated or something else
wrote it, holds no completions.
"""

import io
import re
import threading
import uuid
from collections.abc import Sequence
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
"""Rows that one hit reads and decompresses: about 12 kB of ReasonRank's responses."""

_INDEX = b"corpus_reranker.completions.1"
"""Metadata key of the index: the first 8 bytes of each key."""

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
    hashes = hashes_of(rows["key"].to_pylist())
    schema = STORED_COMPLETIONS.with_metadata({_INDEX: hashes.tobytes().hex()})
    body = io.BytesIO()
    with pa.ipc.new_file(body, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows.replace_schema_metadata(schema.metadata), max_chunksize=_ROWS_PER_BATCH)
    return body.getvalue()


def hashes_of(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each key, by which it is found."""
    return np.frombuffer(b"".join(key[:8] for key in keys), np.uint64)


class Segment:
    """An open segment. Safe to use from several threads."""

    def __init__(self, filesystem: FileSystem, folder: str, name: str) -> None:
        """Read the footer.

        Raises:
            ValueError: The file is truncated, or not a segment.
            OSError: It cannot be read.
        """
        self._lock = threading.Lock()
        self._reader = pa.ipc.open_file(filesystem.open_input_file(join(folder, name)))
        metadata = self._reader.schema.metadata or {}
        if _INDEX not in metadata or self._reader.schema.remove_metadata() != STORED_COMPLETIONS:
            raise ValueError(f"{name} is not a segment of completions")
        self.hashes: npt.NDArray[np.uint64] = np.frombuffer(bytes.fromhex(metadata[_INDEX].decode()), np.uint64)

    def row(self, number: int) -> dict[str, Any]:
        """One row. Raises as the constructor does."""
        with self._lock:
            batch = self._reader.get_batch(number // _ROWS_PER_BATCH)
        row: dict[str, Any] = batch.slice(number % _ROWS_PER_BATCH, 1).to_pylist()[0]
        return row

    def rows(self) -> pa.Table:
        """All rows. Raises as the constructor does."""
        with self._lock:
            return self._reader.read_all().replace_schema_metadata()
