"""Admission control of one replica: how many queries and windows are in flight at once."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

from corpus_reranker.dataflow.capacity import Capacity, with_headroom
from corpus_reranker.types import Completion

_INITIAL_OUTPUT_FRACTION = 0.25
"""Assumed output length as a fraction of max_tokens, until completions arrive. ReasonRank's completions average about
750 of 3,172 tokens."""

_INITIAL_QUERIES = 8
"""Queries admitted before the first prompt shows how long prompts are."""

_MEAN_WINDOWS = 256
"""Number of windows in the running means of lengths. The input may be sorted by dataset, so the means must adapt."""


@dataclass(slots=True)
class QuerySlot:
    """The slot of an admitted query.

    Attributes:
        windows_left: Maximum number of windows that it may still request.
        started: One of its windows has reached the engine.
    """

    windows_left: int
    started: bool = False


class Admission:
    """Admits queries and windows so that `target_windows_in_flight` windows are in flight, longest queries first.

    The target follows the lengths of the windows seen so far; `fixed_target` overrides it. An admitted query
    takes up one window even between two of its windows, and several if its strategy requests several at once. After
    `end_input`, every waiting query is admitted and windows of the longest queries go first, so that the last queries
    finish together instead of one after another in a nearly idle engine.

    Not thread-safe: use it from one event loop.
    """

    def __init__(self, capacity: Capacity, max_tokens: int, fixed_target: int | None = None) -> None:
        """Create admission control for one engine.

        Args:
            capacity: Capacity of the engine.
            max_tokens: Maximum number of output tokens of one completion.
            fixed_target: Windows to keep in flight; None derives the number from `capacity`.
        """
        self.queries_in_flight = 0
        self.windows_in_flight = 0
        self._capacity = capacity
        self._fixed_target = fixed_target
        self._input_ended = self._closed = False
        self._prompt_tokens: float | None = None
        self._output_tokens = max_tokens * _INITIAL_OUTPUT_FRACTION
        self._waiting_queries: list[_Waiter] = []
        self._waiting_windows: list[_Waiter] = []
        self._arrivals = itertools.count()

    @property
    def target_windows_in_flight(self) -> int:
        if self._fixed_target is not None:
            return self._fixed_target
        if self._prompt_tokens is None:
            return min(_INITIAL_QUERIES, with_headroom(self._capacity.max_num_seqs))
        return with_headroom(self._capacity.windows(self._prompt_tokens, self._output_tokens))

    @contextlib.asynccontextmanager
    async def query(self, max_windows: int) -> AsyncIterator[QuerySlot]:
        """Wait for a query slot and hold it; the query requests at most `max_windows` windows."""
        slot = QuerySlot(max_windows)
        admitted = self._enqueue(self._waiting_queries, slot)
        try:
            await admitted
            yield slot
        finally:
            if not admitted.cancelled():  # a query cancelled while it waited never held a slot
                self.queries_in_flight -= 1
                self._admit()

    @contextlib.asynccontextmanager
    async def window(self, slot: QuerySlot, prompt_tokens: int) -> AsyncIterator[None]:
        """Wait for a window slot and hold it, for the next window of the query that holds `slot`."""
        if self._prompt_tokens is None:
            self._prompt_tokens = prompt_tokens
        admitted = self._enqueue(self._waiting_windows, slot)
        slot.windows_left = max(slot.windows_left - 1, 0)
        try:
            await admitted
            slot.started = True
            yield
        finally:
            if not admitted.cancelled():
                self.windows_in_flight -= 1
                self._admit()

    def update_lengths(self, completion: Completion) -> None:
        """Update the mean lengths, and so the target, with the engine's token counts of `completion`."""
        self._prompt_tokens = _update_mean(self._prompt_tokens, completion.prompt_tokens)
        self._output_tokens = _update_mean(self._output_tokens, completion.output_tokens)

    def update_capacity(self, capacity: Capacity) -> None:
        """Replace the capacity, and admit the queries and windows that now fit."""
        self._capacity = capacity
        self._admit()

    def end_input(self) -> None:
        """Admit every waiting query: no further query will arrive at any replica of the run."""
        self._input_ended = True
        self._admit()

    def close(self) -> None:
        """Cancel every query that waits for its slot or for its first window, now and later. The others continue."""
        self._closed = True
        for _, _, admitted, slot in (*self._waiting_queries, *self._waiting_windows):
            if not slot.started:
                admitted.cancel()

    def _enqueue(self, waiting: "list[_Waiter]", slot: QuerySlot) -> asyncio.Future[None]:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed and not slot.started:
            admitted.cancel()
            return admitted
        heapq.heappush(waiting, (-slot.windows_left, next(self._arrivals), admitted, slot))
        self._admit()
        return admitted

    def _admit(self) -> None:
        while self._waiting_windows and self.windows_in_flight < self.target_windows_in_flight:
            self.windows_in_flight += _admit_first(self._waiting_windows)
        while self._waiting_queries and (self._input_ended or self._in_flight() < self.target_windows_in_flight):
            self.queries_in_flight += _admit_first(self._waiting_queries)

    def _in_flight(self) -> int:
        return max(self.queries_in_flight, self.windows_in_flight)


_Waiter: TypeAlias = tuple[int, int, asyncio.Future[None], QuerySlot]
"""Sort key: most windows left first, then order of arrival."""


def _admit_first(waiting: list[_Waiter]) -> bool:
    """Admit the first waiter and return True, or return False if it was cancelled."""
    admitted = heapq.heappop(waiting)[2]
    if admitted.done():
        return False
    admitted.set_result(None)
    return True


def _update_mean(mean: float | None, value: float) -> float:
    return value if mean is None else mean + (value - mean) / _MEAN_WINDOWS
