"""The queries in flight of one replica, reported to the coordinator before they can end the process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from corpus_reranker.dataflow.coordinator import CoordinatorClient


class QueriesInFlight:
    """Reports each query to the coordinator before it starts. Queries that start together share one call."""

    def __init__(self, coordinator: CoordinatorClient, is_isolated: Callable[[str], bool] = lambda _: False) -> None:
        """`is_isolated` selects the queries whose completions are reported as well."""
        self._coordinator = coordinator
        self._is_isolated = is_isolated
        self._completions: dict[str, int] = {}
        self._changed: set[str] = set()
        self._ended: list[str] = []
        self._requested = self._reported = 0
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._completions)

    @property
    def ids(self) -> list[str]:
        return sorted(self._completions)

    @contextlib.asynccontextmanager
    async def query(self, query_id: str) -> AsyncIterator[None]:
        """Context in which a query is in flight."""
        self._completions[query_id] = 0
        try:
            self._changed.add(query_id)
            await self.report()
            yield
        finally:
            del self._completions[query_id]
            self._changed.discard(query_id)
            self._ended.append(query_id)  # the next report carries it

    async def count_completion(self, query_id: str) -> None:
        """Count a completion of an isolated query, and report it before the query's next request."""
        if self._is_isolated(query_id):
            self._completions[query_id] += 1
            self._changed.add(query_id)
            await self.report()

    async def report(self) -> None:
        """Report all changes since the last report. If the coordinator does not answer, the next report repeats it."""
        self._requested += 1
        number = self._requested
        async with self._lock:
            if self._reported >= number:  # a call that began later than this one carried its changes
                return
            covers = self._requested
            changed, ended = self._changed, self._ended
            self._changed, self._ended = set(), []
            completions = {query_id: self._completions[query_id] for query_id in changed}
            if (completions or ended) and not await self._coordinator.update_queries(completions, ended):
                self._changed |= changed & self._completions.keys()
                self._ended = [*ended, *self._ended]
            self._reported = covers
