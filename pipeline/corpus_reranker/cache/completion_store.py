"""The completion cache across runs: a folder of segments (segments.py) that any number of runs read and write.

The key of a completion is a hash of everything that determines it, and of nothing else: a window whose prompt has not
changed is a hit, whichever query or run requested it first. No lock is needed: a segment is never changed, and two
segments may hold the same completion. The store may be unavailable at any time: a read takes at most _READ_SECONDS,
and after a failure nothing is read or written for _PAUSE_SECONDS.
"""

import asyncio
import contextlib
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow.fs import FileSystem

from corpus_reranker.cache.segments import (
    STORED_COMPLETIONS,
    Segment,
    encode_segment,
    hashes_of,
    list_segments,
    new_segment_name,
)
from corpus_reranker.io.filesystem import IO_THREADS, resolve
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.schemas import completion_of_row
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams

_READ_SECONDS = 2.0
"""Timeout of the read of one completion. A window takes seconds to minutes on an engine."""

_LOAD_SECONDS = 30.0
"""How long the start of a replica waits for the index. If loading takes longer, the index is used once it is loaded."""

_COMMIT_SECONDS = 10.0
"""Interval between two segments of a replica. After a crash, the store lacks the completions since the last segment;
the run's own cache has them (completions.py)."""

_FLUSH_SECONDS = 5.0
"""Timeout of the write of a segment, and of the wait for the last one."""

_PAUSE_SECONDS = 30.0
"""Time without reads and commits after a failure of the store."""

_MAX_PENDING = 4096
"""Maximum number of completions that wait for a commit. Beyond it, the oldest are dropped."""

_MAX_OPEN_SEGMENTS = 64
"""Maximum number of segments that a replica keeps open, with their footers in memory: those used last."""

_READ_THREADS = 4

logger = logging.getLogger(__name__)


def completion_key(model: str, prompt: Prompt, params: SamplingParams, *, token_ids: bool = True) -> bytes:
    """The SHA-256 of everything that determines a completion. At temperature 0 this excludes the seed.

    Args:
        model: Digest of the model and of everything about the engine that determines its answers.
        prompt: The prompt.
        params: The sampling parameters.
        token_ids: Whether the engine reads the prompt's token ids. False: it reads the text.
    """
    params = params if params.temperature else replace(params, seed=0)
    inputs: tuple[Any, ...] = (model, prompt.choices, asdict(params))
    if not token_ids and prompt.chat is not None:  # `text` was rendered by a tokenizer other than the server's
        inputs = (*inputs, prompt.chat)
    digest = hashlib.sha256(repr(inputs).encode("utf-8", "surrogatepass"))
    digest.update(
        np.array(prompt.token_ids, "<i8").tobytes() if token_ids else prompt.text.encode("utf-8", "surrogatepass")
    )
    return digest.digest()


@dataclass(frozen=True, slots=True)
class CompletionIndex:
    """Sorted hashes of keys, each with the number of its segment and its row there: 16 bytes per completion."""

    names: Sequence[str]
    hashes: npt.NDArray[np.uint64]
    segments: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.uint32]

    def find(self, key: bytes) -> tuple[str, int] | None:
        """Name of the segment and row that may hold `key`."""
        (wanted,) = hashes_of([key])
        position = int(np.searchsorted(self.hashes, wanted))
        if position == len(self.hashes) or self.hashes[position] != wanted:
            return None
        return self.names[self.segments[position]], int(self.rows[position])


def load_index(filesystem: FileSystem, folder: str) -> CompletionIndex:
    """The index of all segments in `folder`. Truncated files, and files that are not segments, are skipped."""
    names = [file.name for file in list_segments(filesystem, folder)]

    def hashes(name: str) -> npt.NDArray[np.uint64]:
        try:
            return Segment(filesystem, folder, name).hashes
        except (ValueError, FileNotFoundError) as error:  # also pa.ArrowInvalid
            logger.info("completion cache: skipped %s: %s", name, error)
            return np.array([], np.uint64)

    with ThreadPoolExecutor(IO_THREADS) as pool:
        found = list(pool.map(hashes, names))
    counts = [len(each) for each in found]
    numbers = np.repeat(np.arange(len(names), dtype=np.uint32), counts)
    rows = np.concatenate([np.array([], np.uint32), *(np.arange(count, dtype=np.uint32) for count in counts)])
    unique, first = np.unique(np.concatenate([np.array([], np.uint64), *found]), return_index=True)
    return CompletionIndex(names, unique, numbers[first], rows[first])


def open_completion_store(
    url: str, storage: StorageConfig, model: str, token_ids: bool, count: Callable[[str], None]
) -> "CompletionStore":
    """Open the store at `url` with short timeouts and without retries, as it is only a cache. Sends no request.

    Args:
        url: Folder of the store.
        storage: How to reach it.
        model: As in `completion_key`.
        token_ids: As in `completion_key`.
        count: Called with the name of a counter for each event.
    """
    seconds = {"connect_timeout_seconds": _READ_SECONDS, "request_timeout_seconds": _FLUSH_SECONDS}
    storage = storage.model_copy(update={**seconds, "max_attempts": 1})
    filesystem, folder = resolve(url, storage)
    return CompletionStore(filesystem, folder, open_object_store(url, storage), redact(url), model, token_ids, count)


class CompletionStore:
    """The store of one replica, on one event loop. No call raises, or takes longer than the constants above."""

    def __init__(
        self,
        filesystem: FileSystem,
        folder: str,
        store: ObjectStore,
        name: str,
        model: str,
        token_ids: bool,
        count: Callable[[str], None],
    ) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._store = store
        self._name = name
        self._model = model
        self._token_ids = token_ids
        self._count = count
        # The store has its own threads, so that a hanging request blocks no other work.
        self._readers = ThreadPoolExecutor(_READ_THREADS, "completion-store-read")
        self._writer = ThreadPoolExecutor(1, "completion-store-write")
        self._index: CompletionIndex | None = None
        self._segments: OrderedDict[str, Segment] = OrderedDict()  # least recently used first
        self._opening = threading.Lock()
        self._pending: list[dict[str, Any]] = []
        self._commit_now = asyncio.Event()
        self._committing: asyncio.Task[None] | None = None
        self._paused_until = 0.0

    async def load(self) -> None:
        """Read the index of the existing segments. Segments that are written later are not read."""
        loading = asyncio.ensure_future(self._run(self._readers, self._load, seconds=None))
        await asyncio.wait([loading], timeout=_LOAD_SECONDS)

    def caching(self, generate: Generate) -> Generate:
        """Wrap `generate`: a hit replaces the request. Counts "cache_hits" and "cache_failures"."""

        async def generate_or_reuse(prompt: Prompt, params: SamplingParams) -> Completion:
            key = completion_key(self._model, prompt, params, token_ids=self._token_ids)
            if completion := await self._get(key):
                self._count("cache_hits")
                return completion
            completion = await generate(prompt, params)
            self._add(key, completion)
            return completion

        return generate_or_reuse

    async def flush(self) -> None:
        """Commit the completions added so far, and wait for the commit unless the store is unavailable."""
        if self._committing is None or self._committing.done() or time.monotonic() < self._paused_until:
            return
        self._commit_now.set()
        await asyncio.wait([self._committing], timeout=_FLUSH_SECONDS)

    async def _get(self, key: bytes) -> Completion | None:
        found = self._index.find(key) if self._index else None
        if found is None or time.monotonic() < self._paused_until:
            return None
        row = await self._run(self._readers, self._read, *found, seconds=_READ_SECONDS)
        if row is None or row["key"] != key:
            return None
        return completion_of_row(row)

    def _add(self, key: bytes, completion: Completion) -> None:
        row = {"key": key, "written_at": int(time.time()), **asdict(completion)}
        self._pending = [*self._pending, row][-_MAX_PENDING:]
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_pending())

    async def _commit_pending(self) -> None:
        while self._pending:
            wait_seconds = max(_COMMIT_SECONDS, self._paused_until - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._commit_now.wait(), wait_seconds)
            self._commit_now.clear()
            pending, self._pending = self._pending, []
            if not await self._run(self._writer, self._write, pending, seconds=_FLUSH_SECONDS):
                self._pending = [*pending, *self._pending][-_MAX_PENDING:]

    async def _run(
        self, executor: Executor, function: Callable[..., Any], *arguments: Any, seconds: float | None
    ) -> Any:
        """Call a function in a thread; None after an error or a timeout, which pause the store."""
        call = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
        try:
            return await asyncio.wait_for(call, seconds)
        except Exception as error:
            if time.monotonic() >= self._paused_until:  # log once for all calls in flight
                logger.warning("completion cache: cannot use %s: %s: %s", self._name, type(error).__name__, error)
                self._count("cache_failures")
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            return None

    def _load(self) -> None:
        self._index = load_index(self._filesystem, self._folder)

    def _read(self, name: str, number: int) -> dict[str, Any] | None:
        try:
            with self._opening:
                segment = self._segments.pop(name, None) or Segment(self._filesystem, self._folder, name)
                self._segments[name] = segment
                if len(self._segments) > _MAX_OPEN_SEGMENTS:
                    self._segments.popitem(last=False)
            return segment.row(number)
        except (ValueError, FileNotFoundError):  # compacted or damaged since the index was read
            return None

    def _write(self, rows: list[dict[str, Any]]) -> bool:
        newest = max(row["written_at"] for row in rows)
        self._store.write(new_segment_name(newest), encode_segment(pa.Table.from_pylist(rows, STORED_COMPLETIONS)))
        return True
