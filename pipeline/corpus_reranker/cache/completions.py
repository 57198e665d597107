"""The completion cache of a run: completions of queries that are not in the output yet, for a resumed run.

    _run/RUN/completions/REPLICA/NUMBER.parquet    a segment: rows of COMPLETIONS in schemas.py

A window is in flight until its completion is in a segment, so a crash loses only windows in flight. Nothing else
depends on the cache: a missing completion is requested again, and only a request with the same prompt and the same
sampling parameters is a cache hit.

On S3, each commit is a PutObject with all completions since the last one. The pause between commits is a twentieth of a
window's latency, but at most two seconds. For windows of 40 seconds or more, this is about 1,800 requests per hour and
replica, however many windows there are.
"""

import asyncio
import contextlib
import hashlib
import io
import logging
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from corpus_reranker.io.filesystem import IO_THREADS, list_files
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.schemas import COMPLETIONS, QUERY_ID, completion_of_row
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams

_SEGMENT_ROWS = 64
"""Rows in a full segment. Each commit rewrites the segment until it is full. A ReasonRank response has about 4 kB."""

_PAUSE_FRACTION = 0.05
"""The next commit waits for this fraction of a window's latency, so that it has more than one completion."""

_MAX_PAUSE_SECONDS = 2.0
"""Maximum time for which the next commit waits."""

_MAX_WAIT_SECONDS = 5.0
"""How long a window waits for its commit at most: an unreachable store must not leave the engine idle."""

_RETRY_DELAY_SECONDS = 5.0
"""Delay before a failed commit is repeated."""

_MAX_PENDING = 4096
"""Maximum number of completions that wait for an unreachable store: 16 MB of ReasonRank's responses. Beyond it, the
oldest are dropped."""

_RETENTION_SECONDS = 600.0
"""How long a segment is kept after its last query ends: rows are written only when their whole block is finished."""

_EXPIRE_INTERVAL_SECONDS = 30.0
"""Interval between two searches for such segments."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentIndex:
    """The segments that hold completions of each query.

    It takes 8 bytes for each query in addition to the id, and 4 for each of the query's segments. The replicas of a
    node share its buffers in Ray's object store.

    Attributes:
        query_ids: The ids, in ascending order and without duplicates.
        segments: For each query, a list of segment names (dictionary-encoded).
    """

    query_ids: pa.StringArray
    segments: pa.ListArray

    def __len__(self) -> int:
        return len(self.query_ids)

    def find(self, query_id: str) -> list[str]:
        """The names of the segments that hold completions of a query."""
        position = bisect_left(self.query_ids, query_id, key=pa.StringScalar.as_py)
        if position == len(self) or self.query_ids[position].as_py() != query_id:
            return []
        names: list[str] = self.segments[position].as_py()
        return names


def completion_index(layout: Layout, replica: str = "") -> SegmentIndex:
    """Index the segments of one replica, or of all replicas, by the queries of their completions.

    The driver does this once before a pass, in its subprocess, and passes the result to the replicas, so that not every
    replica reads every segment.
    """
    filesystem, folder = layout.filesystem, layout.completions_folder
    paths = [info.path for info in list_files(filesystem, f"{folder}/{replica}".rstrip("/"), recursive=True)]
    names: list[str] = []
    query_ids, segments = [pa.array([], pa.string())], [pa.array([], pa.int32())]
    if paths := [path for path in paths if path.endswith(".parquet")]:
        rows = ds.dataset(paths, schema=COMPLETIONS, format="parquet", filesystem=filesystem)
        for batch in rows.to_batches(columns=[QUERY_ID, "__filename"], fragment_readahead=IO_THREADS):
            if batch.num_rows:
                query_ids.append(pc.unique(batch[QUERY_ID]))
                segments.append(pa.repeat(pa.scalar(len(names), pa.int32()), len(query_ids[-1])))
                names.append(batch["__filename"][0].as_py()[len(folder) + 1 :])
    pairs = pa.table({QUERY_ID: pa.concat_arrays(query_ids), "segment": pa.concat_arrays(segments)}).sort_by(QUERY_ID)
    runs = pc.run_end_encode(pairs[QUERY_ID].combine_chunks())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), runs.run_ends])
    encoded = pa.DictionaryArray.from_arrays(pairs["segment"].combine_chunks(), pa.array(names, pa.string()))
    return SegmentIndex(runs.values, pa.ListArray.from_arrays(offsets, encoded))


def open_completion_cache(
    layout: Layout,
    replica: str,
    index: SegmentIndex | None,
    count: Callable[[str], None],
    *,
    read_only: bool = False,
    keep_all: bool = False,
) -> "CompletionCache":
    """The cache of one replica.

    Args:
        layout: The output.
        replica: Name of the replica. It does not change at a restart, so that the replica finds its own segments.
        index: What `completion_index` returned before the pass; None: no segments.
        count: Called with the name of a counter for each event.
        read_only: Store no further completions.
        keep_all: Keep the completions of finished queries, because their rankings may be continued.
    """
    indices = [each for each in (index, completion_index(layout, replica)) if each is not None]
    store = open_object_store(layout.completions_url, layout.storage)
    return CompletionCache(store, replica, indices, count, read_only=read_only, keep_all=keep_all)


class CompletionCache:
    """Segments of one replica, and those that earlier replicas wrote. For one event loop.

    A failed read or write is logged and counted, not raised: a window does not fail because its completion cannot be
    cached. `store` is the cache's folder; `indices` cover the segments from before.
    """

    def __init__(
        self,
        store: ObjectStore,
        replica: str,
        indices: Sequence[SegmentIndex],
        count: Callable[[str], None],
        *,
        read_only: bool = False,
        keep_all: bool = False,
    ) -> None:
        self._store = store
        self._keep_all = keep_all
        self._read_only = read_only
        self._replica = replica
        self._count = count
        self._indices = indices
        self._own_segments: defaultdict[str, list[str]] = defaultdict(list)
        self._open: set[str] = set()
        self._pending: list[tuple[dict[str, Any], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._segment: list[dict[str, Any]] = []
        self._segment_name = ""
        self._queries_in: dict[str, set[str]] = {}
        self._finished_at: dict[str, float] = {}
        self._expire_at = 0.0

    @contextlib.asynccontextmanager
    async def caching(self, query_id: str, generate: Generate) -> AsyncIterator[Generate]:
        """Wrap `generate` for the windows of one query: a cache hit replaces the request.

        Counts "cache_hits" and "cache_failures".
        """
        cached = await self._load(query_id)

        async def generate_or_reuse(prompt: Prompt, params: SamplingParams) -> Completion:
            request = _request_key(prompt, params)
            if completion := cached.get(request):
                self._count("cache_hits")
                return completion
            started = time.monotonic()
            completion = await generate(prompt, params)
            if self._read_only:
                return completion
            row = {QUERY_ID: query_id, "request": request, **asdict(completion)}
            await self._commit(row, min(_PAUSE_FRACTION * (time.monotonic() - started), _MAX_PAUSE_SECONDS))
            return completion

        self._open.add(query_id)
        try:
            yield generate_or_reuse
        finally:
            self._open.discard(query_id)

    async def _load(self, query_id: str) -> dict[str, Completion]:
        cached: dict[str, Completion] = {}
        earlier = (name for index in self._indices for name in index.find(query_id))
        for name in dict.fromkeys([*earlier, *self._own_segments.get(query_id, ())]):
            try:
                cached |= await asyncio.to_thread(self._read, name, query_id)
            except Exception as error:
                self._failed(f"could not read {name}: {error}")
        return cached

    def _read(self, name: str, query_id: str) -> dict[str, Completion]:
        segment = self._store.read(name)
        if segment is None:
            return {}
        rows = pq.read_table(pa.BufferReader(segment.body), schema=COMPLETIONS)
        cached = {}
        for row in rows.filter(pc.equal(rows[QUERY_ID], query_id)).to_pylist():
            cached[row["request"]] = completion_of_row(row)
        return cached

    async def _commit(self, row: dict[str, Any], pause_seconds: float) -> None:
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((row, committed))
        self._drop_oldest()
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_pending(pause_seconds))
        await asyncio.wait([committed], timeout=_MAX_WAIT_SECONDS)

    async def _commit_pending(self, pause_seconds: float) -> None:
        while self._pending:
            pending, self._pending = self._pending, []
            try:
                await self._write([row for row, _ in pending])
            except Exception as error:
                self._pending = pending + self._pending
                self._drop_oldest()
                self._failed(f"could not write to {self._replica}: {error}")
                await asyncio.sleep(_RETRY_DELAY_SECONDS)
                continue
            if not self._keep_all and time.monotonic() >= self._expire_at:
                await self._expire()
            for _, committed in pending:
                if not committed.done():
                    committed.set_result(None)
            await asyncio.sleep(pause_seconds)

    def _drop_oldest(self) -> None:
        for _, committed in self._pending[:-_MAX_PENDING]:
            if not committed.done():
                committed.set_result(None)
        del self._pending[:-_MAX_PENDING]

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        name = self._segment_name or f"{self._replica}/{time.time_ns()}.parquet"
        segment = self._segment + rows
        await asyncio.to_thread(lambda: self._store.write(name, _parquet(segment)))
        full = len(segment) >= _SEGMENT_ROWS
        self._segment, self._segment_name = ([], "") if full else (segment, name)
        queries = self._queries_in.setdefault(name, set())
        for query_id in {row[QUERY_ID] for row in rows} - queries:
            queries.add(query_id)
            self._own_segments[query_id].append(name)

    async def _expire(self) -> None:
        """Delete full segments whose queries have long been finished."""
        now = time.monotonic()
        self._expire_at = now + _EXPIRE_INTERVAL_SECONDS
        for name in [name for name in self._queries_in if name != self._segment_name]:
            if not self._queries_in[name].isdisjoint(self._open):
                self._finished_at.pop(name, None)
            elif now - self._finished_at.setdefault(name, now) > _RETENTION_SECONDS:
                for query_id in self._queries_in.pop(name):
                    self._own_segments[query_id].remove(name)
                    if not self._own_segments[query_id]:
                        del self._own_segments[query_id]
                del self._finished_at[name]
                try:
                    await asyncio.to_thread(self._store.delete, name)
                except Exception as error:
                    self._failed(f"could not delete {name}: {error}")  # the end of the run deletes the folder

    def _failed(self, what: str) -> None:
        logger.warning("completion cache: %s", what)
        self._count("cache_failures")


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, COMPLETIONS), body, compression="zstd")
    return body.getvalue()


def _request_key(prompt: Prompt, params: SamplingParams) -> str:
    """A hash of everything that determines the completion within a run, in which the engine does not change."""
    return hashlib.sha256(repr((prompt.text, prompt.choices, params)).encode("utf-8", "surrogatepass")).hexdigest()
