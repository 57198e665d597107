"""How many queries a replica works on at once, from what its engine holds."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

from corpus_reranker.dataflow.capacity import Capacity, with_headroom
from corpus_reranker.types import Completion

_OUTPUT_FRACTION_EXPECTED = 0.25
"""Of max_tokens, until completions tell. ReasonRank's answers have about 750 tokens of 3,172."""

_QUERIES_BEFORE_A_PROMPT_IS_SEEN = 8

_MEAN_OVER = 256
"""Lengths of about so many last windows decide: input may be sorted by dataset."""


@dataclass(slots=True)
class Chain:
    """A query that was let in, and how many windows it asks yet, at most."""

    windows_left: int


class Admission:
    """Lets queries and their windows in so that `target` windows are in flight, those with the longest chains first.

    `target` follows the lengths of the windows seen; `fixed` sets it. A query in here counts as one window even
    between two of its own, and as many as it has where its strategy asks them side by side. Once nothing more
    comes (`end`), all that wait are let in and go on side by side, so that the last chains end together and not
    one after the other in an engine that runs empty. For one event loop.
    """

    def __init__(self, capacity: Capacity, max_tokens: int, fixed: int | None = None) -> None:
        self.queries = 0
        self.windows = 0
        self._capacity = capacity
        self._fixed = fixed
        self._ending = False
        self._prompt_tokens: float | None = None
        self._output_tokens = max_tokens * _OUTPUT_FRACTION_EXPECTED
        self._waiting_queries: list[_Waiter] = []
        self._waiting_windows: list[_Waiter] = []
        self._arrivals = itertools.count()

    @property
    def target(self) -> int:
        """Windows to keep in flight."""
        if self._fixed is not None:
            return self._fixed
        if self._prompt_tokens is None:
            return min(_QUERIES_BEFORE_A_PROMPT_IS_SEEN, with_headroom(self._capacity.max_num_seqs))
        return with_headroom(self._capacity.windows(self._prompt_tokens, self._output_tokens))

    @contextlib.asynccontextmanager
    async def query(self, max_windows: int) -> AsyncIterator[Chain]:
        """Wait for a place, and hold it, for a query that asks at most `max_windows`."""
        turn = self._queue(self._waiting_queries, max_windows)
        try:
            await turn
            yield Chain(max_windows)
        finally:
            if not turn.cancelled():  # cancelled while it waited, it never had a place
                self.queries -= 1
                self._admit()

    @contextlib.asynccontextmanager
    async def window(self, chain: Chain, prompt_tokens: int) -> AsyncIterator[None]:
        """Wait for a place in the engine, and hold it, for the next window of `chain`."""
        if self._prompt_tokens is None:
            self._prompt_tokens = prompt_tokens
        turn = self._queue(self._waiting_windows, chain.windows_left)
        chain.windows_left = max(chain.windows_left - 1, 0)
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():
                self.windows -= 1
                self._admit()

    def answered(self, completion: Completion) -> None:
        """Learn from the lengths the engine counted."""
        self._prompt_tokens = _moved(self._prompt_tokens, completion.prompt_tokens)
        self._output_tokens = _moved(self._output_tokens, completion.output_tokens)

    def end(self) -> None:
        """Every query of the run is in some replica by now."""
        self._ending = True
        self._admit()

    def _queue(self, waiting: "list[_Waiter]", windows_left: int) -> asyncio.Future[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(waiting, (-windows_left, next(self._arrivals), turn))
        self._admit()
        return turn

    def _admit(self) -> None:
        while self._waiting_windows and self.windows < self.target:
            self.windows += _call(self._waiting_windows)
        while self._waiting_queries and (self._ending or max(self.queries, self.windows) < self.target):
            self.queries += _call(self._waiting_queries)


_Waiter: TypeAlias = tuple[int, int, asyncio.Future[None]]
"""Sorts by the longest chain, then by arrival."""


def _call(waiting: list[_Waiter]) -> bool:
    """Give the first its turn. False if it doesn't wait any more."""
    turn = heapq.heappop(waiting)[2]
    if turn.done():
        return False
    turn.set_result(None)
    return True


def _moved(mean: float | None, value: float) -> float:
    return value if mean is None else mean + (value - mean) / _MEAN_OVER
