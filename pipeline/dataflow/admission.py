"""How many queries a replica works on at once, from what its engine holds."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Iterator

from pipeline.in_flight import Capacity, with_spare
from pipeline.records import Completion

_OUTPUT_FRACTION_EXPECTED = 0.25
"""Of max_tokens, until completions tell. ReasonRank's answers have about 750 tokens of 3,172."""

_QUERIES_BEFORE_A_PROMPT_IS_SEEN = 8

_MEAN_OVER = 256
"""Lengths of about so many last windows decide: input may be sorted by dataset."""


class Admission:
    """Lets queries in while fewer windows than `target` are in flight, those with the longest chains first.

    `target` follows the lengths of the windows seen; `fixed` sets it. A query in here counts as one window even
    between two of its own, and as many as it has where its strategy asks them side by side. For one event loop.
    """

    def __init__(self, capacity: Capacity, max_tokens: int, fixed: int | None = None) -> None:
        self.queries = 0
        self.windows = 0
        self._capacity = capacity
        self._fixed = fixed
        self._prompt_tokens: float | None = None
        self._output_tokens = max_tokens * _OUTPUT_FRACTION_EXPECTED
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @property
    def target(self) -> int:
        """Windows to keep in flight."""
        if self._fixed is not None:
            return self._fixed
        if self._prompt_tokens is None:
            return min(_QUERIES_BEFORE_A_PROMPT_IS_SEEN, with_spare(self._capacity.max_num_seqs))
        return with_spare(self._capacity.windows(self._prompt_tokens, self._output_tokens))

    @contextlib.asynccontextmanager
    async def query(self, max_windows: int) -> AsyncIterator[None]:
        """Wait for a place, and hold it, for a query that asks at most `max_windows`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-max_windows, next(self._arrivals), turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():  # cancelled while it waited, it never had a place
                self.queries -= 1
                self._admit()

    @contextlib.contextmanager
    def window(self, prompt_tokens: int) -> Iterator[None]:
        """Count a window for as long as the engine has it."""
        if self._prompt_tokens is None:
            self._prompt_tokens = prompt_tokens
        self.windows += 1
        self._admit()
        try:
            yield
        finally:
            self.windows -= 1
            self._admit()

    def answered(self, completion: Completion) -> None:
        """Learn from the lengths the engine counted."""
        self._prompt_tokens = _moved(self._prompt_tokens, completion.prompt_tokens)
        self._output_tokens = _moved(self._output_tokens, completion.output_tokens)

    def _admit(self) -> None:
        while self._waiting and max(self.queries, self.windows) < self.target:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self.queries += 1
                turn.set_result(None)


def _moved(mean: float | None, value: float) -> float:
    return value if mean is None else mean + (value - mean) / _MEAN_OVER
