"""Detects an engine that hangs: requests are in flight, but there is no progress for too long.

A hanging GPU raises no error. Only vLLM's multiprocess executor has a timeout; at tensor_parallel_size 1, every window
of the rest of the run would time out.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from corpus_reranker.engines.base import Engine, EngineCapabilities, EngineSettings, PreRanker
from corpus_reranker.errors import EngineDeadError
from corpus_reranker.formatting import counted
from corpus_reranker.types import Completion, Prompt, SamplingParams

T = TypeVar("T")

_TICKS_PER_TIMEOUT = 60
"""Ticks per timeout: with the default timeout of 600 s, one every 10 s."""


class HangWatch:
    """Fails all requests in flight with EngineDeadError once none has made progress for `timeout_seconds`.

    A separate thread measures the time, so that a blocked engine thread cannot stop the watch. A tick adds at most two
    intervals: an engine does not hang because its process was suspended.
    """

    def __init__(self, timeout_seconds: float, progress: Callable[[], int]) -> None:
        self._timeout_seconds = timeout_seconds
        self._progress = progress
        self._lock = threading.Lock()
        self._in_flight: set[asyncio.Future[Any]] = set()
        self._completed = 0
        self._last_progress: tuple[int, int] = (0, 0)
        self._stalled_seconds = 0.0
        self._reason: str | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that measures the time."""
        self._thread = threading.Thread(target=self._tick_periodically, name="hang-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Safe to call twice, and without a start."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    async def run(self, request: Coroutine[Any, Any, T]) -> T:
        """Await `request`. Raises EngineDeadError as soon as the engine hangs, even if `request` never returns."""
        if self._reason is not None:
            request.close()
            raise EngineDeadError(self._reason)
        loop = asyncio.get_running_loop()
        task, hung = loop.create_task(request), loop.create_future()
        task.add_done_callback(_retrieve_exception)
        with self._lock:
            if not self._in_flight:
                self._stalled_seconds = 0.0
            self._in_flight.add(hung)
        try:
            await asyncio.wait((task, hung), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise EngineDeadError(hung.result())
            return task.result()
        finally:
            with self._lock:
                self._in_flight.discard(hung)
                self._completed += 1
            task.cancel()

    def tick(self, seconds: float) -> None:
        """Add `seconds` to the time without progress, and fail the requests in flight at the timeout."""
        with self._lock:
            progress = (self._progress(), self._completed)
            if progress != self._last_progress or not self._in_flight:
                self._last_progress, self._stalled_seconds = progress, 0.0
                return
            self._stalled_seconds += seconds
            if self._stalled_seconds < self._timeout_seconds or self._reason is not None:
                return
            self._reason = (
                f"the engine made no progress for {self._stalled_seconds:.0f} s with"
                f" {counted(len(self._in_flight), 'request')} in flight"
            )
            for hung in self._in_flight:
                hung.get_loop().call_soon_threadsafe(_resolve, hung, self._reason)

    def _tick_periodically(self) -> None:
        interval = self._timeout_seconds / _TICKS_PER_TIMEOUT
        last = time.monotonic()
        while not self._stopped.wait(interval):
            now = time.monotonic()
            self.tick(min(now - last, 2 * interval))
            last = now


def _retrieve_exception(task: "asyncio.Task[Any]") -> None:
    """Keep asyncio from logging the error of a task that is no longer awaited."""
    if not task.cancelled():
        task.exception()


def _resolve(hung: "asyncio.Future[str]", reason: str) -> None:
    if not hung.done():
        hung.set_result(reason)


class _Watched:
    """Starts the watch after the engine and stops it before the engine."""

    settings_class: ClassVar[type[EngineSettings]] = EngineSettings

    def __init__(self, watched: Engine | PreRanker, hang_timeout_seconds: float) -> None:
        self._watched = watched
        self._watch = HangWatch(hang_timeout_seconds, watched.progress)

    async def start(self) -> None:
        await self._watched.start()
        self._watch.start()

    async def stop(self) -> None:
        self._watch.stop()
        await self._watched.stop()

    def progress(self) -> int:
        return self._watched.progress()

    def info(self) -> dict[str, Any]:
        return self._watched.info()


class WatchedEngine(_Watched):
    """An engine that raises EngineDeadError when it hangs."""

    def __init__(self, engine: Engine, hang_timeout_seconds: float) -> None:
        super().__init__(engine, hang_timeout_seconds)
        self.engine = engine

    @property
    def capabilities(self) -> EngineCapabilities:
        return self.engine.capabilities

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        return await self._watch.run(self.engine.generate(prompt, params))


class WatchedPreRanker(_Watched):
    """A pre-ranker that raises EngineDeadError when it hangs."""

    def __init__(self, pre_ranker: PreRanker, hang_timeout_seconds: float) -> None:
        super().__init__(pre_ranker, hang_timeout_seconds)
        self.pre_ranker = pre_ranker

    async def score(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        return await self._watch.run(self.pre_ranker.score(query, passages))
