"""Keeps the completion store within its limits, and its segments few. The driver calls it at the end of a run.

No lock is needed: rows are written to a new segment before the old segments are deleted. Two concurrent compactions
leave duplicates, which the next compaction removes.
"""

import contextlib
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from corpus_reranker.cache.segments import Segment, SegmentFile, encode_segment, list_segments, new_segment_name
from corpus_reranker.io.filesystem import delete_files, join, resolve
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.settings import StorageConfig

SEGMENT_BYTES = 64 * 2**20
"""Maximum size of a merged segment. A merge holds one such segment in memory."""

MIN_SEGMENTS = 8
"""Small segments are merged once there are this many."""

_DAY_SECONDS = 86_400


def compact(url: str, storage: StorageConfig, max_bytes: float, max_age_days: float) -> None:
    """Delete segments that are too old, then the oldest ones beyond `max_bytes`, and merge small ones.

    Args:
        url: Folder of the store.
        storage: How to reach it.
        max_bytes: Maximum size of all segments.
        max_age_days: Maximum age of a completion.

    Raises:
        OSError, OutputError: The store cannot be reached.
    """
    filesystem, folder = resolve(url, storage)
    min_written_at = int(time.time() - max_age_days * _DAY_SECONDS)
    segments = list_segments(filesystem, folder)
    kept = _within_limits(segments, max_bytes, min_written_at)
    delete_files(filesystem, [join(folder, each.name) for each in segments if each not in kept])
    small = [each for each in kept if each.size_bytes < SEGMENT_BYTES / 2]
    if len(small) >= MIN_SEGMENTS:
        for group in _groups(small):
            _merge(filesystem, folder, open_object_store(url, storage), group, min_written_at)


def _within_limits(segments: Sequence[SegmentFile], max_bytes: float, min_written_at: int) -> list[SegmentFile]:
    """The newest segments that together have at most `max_bytes`, without those that are too old; oldest first."""
    total_bytes = np.cumsum([each.size_bytes for each in reversed(segments)])[::-1]
    return [
        each
        for each, size_bytes in zip(segments, total_bytes, strict=True)
        if size_bytes <= max_bytes and each.written_at >= min_written_at
    ]


def _groups(segments: Sequence[SegmentFile]) -> list[list[SegmentFile]]:
    """Groups of consecutive segments, each of at most SEGMENT_BYTES in total."""
    groups: list[list[SegmentFile]] = [[]]
    for segment in segments:
        if sum(each.size_bytes for each in groups[-1]) + segment.size_bytes > SEGMENT_BYTES:
            groups.append([])
        groups[-1].append(segment)
    return groups


def _merge(
    filesystem: FileSystem, folder: str, store: ObjectStore, group: Sequence[SegmentFile], min_written_at: int
) -> None:
    """Write the rows of the segments to one new segment, each key once, and delete the old segments."""
    tables, merged = [], []
    for each in group:
        with contextlib.suppress(ValueError, FileNotFoundError):  # not a segment, or another compaction was faster
            tables.append(Segment(filesystem, folder, each.name).rows())
            merged.append(each.name)
    if len(merged) < 2:
        return
    rows = pa.concat_tables(tables)
    rows = rows.filter(pc.greater_equal(rows["written_at"], min_written_at))
    _, first = np.unique(rows["key"].to_numpy(zero_copy_only=False), return_index=True)
    rows = rows.take(pa.array(np.sort(first)))
    if rows.num_rows:
        store.write(new_segment_name(pc.max(rows["written_at"]).as_py()), encode_segment(rows))
    delete_files(filesystem, [join(folder, name) for name in merged])
