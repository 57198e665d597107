"""Poison queries: queries that end the process of every replica that works on them.

A death shows only which queries were in flight. Isolated queries therefore run in groups that shrink with each death,
until a query was alone in a process that died. The next process of that replica begins with a solo run: no other query
runs before this one has ended. A death before the query has made progress counts as a solo death of the query. An
engine that answers at least once before it dies causes no solo death, however often it dies.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from corpus_reranker.errors import ReplicaDeathsError, RowError
from corpus_reranker.formatting import counted

_ISOLATED_AFTER_DEATHS = 2
"""A query that was in flight at this many deaths is isolated. A single death usually comes from an engine or a node."""

_GROUP_DIVISOR = 4
"""Isolated queries run in groups of 1 / 4 of those that were in flight at the last death: a poison query among 256 is
alone after 4 further deaths, each of which costs the start of an engine."""

_MAX_SOLO_DEATHS = 3
"""A query is poison after this many solo deaths in a row."""

_MAX_SOLO_DEATHS_OF_FAULTY_ENGINE = 10
"""The same on a replica where a query made progress after a solo death: there, the engine ends solo runs as well."""

_SOLO_WAIT_SECONDS = 10.0
"""How long other queries wait for the solo query to arrive. Ray sends a restarted actor all of its blocks at once, but
a query can have moved to another replica."""


@dataclass(frozen=True, slots=True)
class DeathRecord:
    """The deaths of processes at which a query was in flight.

    Attributes:
        deaths: Number of deaths.
        in_flight: Queries in flight at the last one.
        solo_deaths: Deaths in solo runs since the query last got more completions than in any earlier process.
    """

    deaths: int
    in_flight: int
    solo_deaths: int = 0

    @property
    def group_size(self) -> int | None:
        """Maximum number of isolated queries in flight together, this one included; None: it is not isolated."""
        isolated = self.deaths >= _ISOLATED_AFTER_DEATHS or self.in_flight == 1
        return max(1, self.in_flight // _GROUP_DIVISOR) if isolated else None


@dataclass(frozen=True, slots=True)
class ReplicaHistory:
    """Deaths of earlier processes, as of the start of a replica's process.

    Attributes:
        records: The record of each query that was in flight at a death in any replica and is not finished.
        solo_query: The query that runs first and alone; None: all may run.
        deaths: Deaths of this replica's processes.
        deaths_without_progress: Those since one of its queries last made progress.
        refuted_solo_deaths: Solo deaths on this replica after which the query made progress: the engine was at fault.
    """

    records: Mapping[str, DeathRecord] = field(default_factory=dict)
    solo_query: str | None = None
    deaths: int = 0
    deaths_without_progress: int = 0
    refuted_solo_deaths: int = 0

    def check_deaths(self, max_deaths: int) -> None:
        """Raises ReplicaDeathsError, which ends the run, after more than `max_deaths` deaths without progress."""
        if self.deaths_without_progress > max_deaths:
            raise ReplicaDeathsError(
                f"the process of a replica on {socket.gethostname()} died {self.deaths_without_progress} times "
                "without an answered window in between (cluster.max_replica_deaths)"
            )

    def is_poison(self, query_id: str) -> bool:
        """Whether the query has had so many solo deaths that it is not run again."""
        record = self.records.get(query_id)
        needed = _MAX_SOLO_DEATHS_OF_FAULTY_ENGINE if self.refuted_solo_deaths else _MAX_SOLO_DEATHS
        return record is not None and record.solo_deaths >= needed


class PoisonQueryPolicy:
    """Separates isolated queries from all others, in groups that shrink with each death. The solo query runs first."""

    def __init__(self, history: ReplicaHistory) -> None:
        self._history = history
        self._group_sizes = {key: size for key, record in history.records.items() if (size := record.group_size)}
        solo = history.solo_query
        self._solo_query = solo if solo in self._group_sizes and not history.is_poison(solo) else None
        self._solo_timer: asyncio.Task[None] | None = None
        self._waiting: list[str] = []
        self._isolated_running: list[str] = []
        self._others_running = 0
        self._changed = asyncio.Condition()

    def check(self, query_id: str) -> None:
        """Raises RowError for a poison query."""
        if self._history.is_poison(query_id):
            record = self._history.records[query_id]
            raise RowError(
                f"its replica's process died {counted(record.deaths, 'time')} while this query was in flight,"
                f" the last {record.solo_deaths} times with no other query in flight"
            )

    def is_isolated(self, query_id: str) -> bool:
        return query_id in self._group_sizes

    def isolation(self, query_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Context in which a query runs: an isolated query with few other isolated ones, all others without any."""
        if not self._group_sizes:
            return contextlib.nullcontext()
        if self._solo_query and not self._solo_timer:
            self._solo_timer = asyncio.create_task(self._await_solo_query())
        return self._among_isolated(query_id) if self.is_isolated(query_id) else self._without_isolated()

    async def _await_solo_query(self) -> None:
        await asyncio.sleep(_SOLO_WAIT_SECONDS)
        async with self._changed:
            if self._solo_query not in self._isolated_running:
                self._solo_query = None
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def _among_isolated(self, query_id: str) -> AsyncIterator[None]:
        async with self._changed:
            self._waiting.append(query_id)
            self._waiting.sort(key=self._order)
            try:
                await self._changed.wait_for(lambda: self._may_enter(query_id))
            finally:
                self._waiting.remove(query_id)
            self._isolated_running.append(query_id)
            self._changed.notify_all()  # the next isolated query may fit as well
        try:
            yield
        finally:
            async with self._changed:
                self._isolated_running.remove(query_id)
                self._solo_query = None
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def _without_isolated(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not (self._solo_query or self._waiting or self._isolated_running))
            self._others_running += 1
        try:
            yield
        finally:
            async with self._changed:
                self._others_running -= 1
                self._changed.notify_all()

    def _order(self, query_id: str) -> tuple[int, int]:
        """Sort key: the most solo deaths first, then the smallest group."""
        return -self._history.records[query_id].solo_deaths, self._group_sizes[query_id]

    def _may_enter(self, query_id: str) -> bool:
        if self._solo_query:
            return query_id == self._solo_query
        group = [*self._isolated_running, query_id]
        fits = len(group) <= min(self._group_sizes[each] for each in group)
        return fits and not self._others_running and self._waiting[0] == query_id
