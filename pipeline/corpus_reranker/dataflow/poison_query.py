"""Poison queries: queries that kill the engine of every replica that works on them."""

import asyncio
import contextlib
from collections.abc import Mapping

from corpus_reranker.errors import RowError

_SUSPECT_DEATHS = 2
"""A query that was in flight at this many engine deaths is a suspect: it does not run at the same time as another."""

_POISON_DEATHS = 3
"""A query that was in flight at this many engine deaths fails without another request."""


class PoisonQueryPolicy:
    """Runs suspects one at a time, so that one more death shows which of them kills the engine."""

    def __init__(self, engine_deaths: Mapping[str, int]) -> None:
        """`engine_deaths`: number of engine deaths at which each query was in flight, when the replica started."""
        self._engine_deaths = engine_deaths
        self._suspect_slot = asyncio.Lock()

    def check(self, query_id: str) -> None:
        """Raises RowError for a poison query."""
        deaths = self._engine_deaths.get(query_id, 0)
        if deaths >= _POISON_DEATHS:
            raise RowError(f"the engine died {deaths} times while this query was in flight")

    def isolation(self, query_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Context in which a query runs. Only one suspect can be inside at a time."""
        is_suspect = self._engine_deaths.get(query_id, 0) >= _SUSPECT_DEATHS
        return self._suspect_slot if is_suspect else contextlib.nullcontext()
