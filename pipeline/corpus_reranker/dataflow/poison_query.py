"""Poison queries: queries that end the process of every replica that works on them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from corpus_reranker.errors import RowError

_SUSPECT_DEATHS = 2
"""A query that was in flight at this many deaths is a suspect. One death is most often that of an engine or a node."""

_POISON_DEATHS = 3
"""A query fails after this many deaths while it ran alone and made no progress in between."""

_GROUP_DIVISOR = 4
"""Suspects run in groups of this fraction of those that died together: a poison query among 256 is alone after 4
further deaths, each of which costs the start of an engine."""


@dataclass(frozen=True, slots=True)
class DeathRecord:
    """The deaths of processes at which a query was in flight.

    Attributes:
        deaths: Number of deaths.
        in_flight: Queries in flight at the last one.
        deaths_alone: Consecutive deaths at which no other query was in flight, and before which this query did not
            get more completions than before the earlier ones.
    """

    deaths: int
    in_flight: int
    deaths_alone: int = 0

    @property
    def group_size(self) -> int | None:
        """Maximum number of suspects that may run together with this query; None: it is no suspect."""
        return max(1, self.in_flight // _GROUP_DIVISOR) if self.deaths >= _SUSPECT_DEATHS else None

    @property
    def is_poison(self) -> bool:
        return self.deaths_alone >= _POISON_DEATHS


class PoisonQueryPolicy:
    """Runs suspects apart from other queries, in groups that shrink with each death, until one dies alone.

    A query that makes progress between deaths is not counted as dying alone. This protects most queries, but not all,
    from an engine that dies whatever it works on.
    """

    def __init__(self, records: Mapping[str, DeathRecord]) -> None:
        """`records`: the deaths at which each query was in flight, when the replica started."""
        self._records = records
        self._group_sizes = {key: size for key, record in records.items() if (size := record.group_size)}
        self._waiting: list[str] = []
        self._suspects_inside: list[str] = []
        self._others_inside = 0
        self._changed = asyncio.Condition()

    def check(self, query_id: str) -> None:
        """Raises RowError for a poison query."""
        record = self._records.get(query_id)
        if record is not None and record.is_poison:
            raise RowError(
                f"its replica's process died {record.deaths} times while this query was in flight,"
                f" the last {record.deaths_alone} times with no other query"
            )

    def is_suspect(self, query_id: str) -> bool:
        return query_id in self._group_sizes

    def isolation(self, query_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Context in which a query runs: suspects with few others of their kind, other queries without suspects."""
        if not self._group_sizes:
            return contextlib.nullcontext()
        return self._among_suspects(query_id) if self.is_suspect(query_id) else self._without_suspects()

    @contextlib.asynccontextmanager
    async def _among_suspects(self, query_id: str) -> AsyncIterator[None]:
        async with self._changed:
            self._waiting.append(query_id)
            self._waiting.sort(key=self._order)
            try:
                await self._changed.wait_for(lambda: self._may_enter(query_id))
            finally:
                self._waiting.remove(query_id)
            self._suspects_inside.append(query_id)
            self._changed.notify_all()  # the next suspect may fit, too
        try:
            yield
        finally:
            async with self._changed:
                self._suspects_inside.remove(query_id)
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def _without_suspects(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting and not self._suspects_inside)
            self._others_inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._others_inside -= 1
                self._changed.notify_all()

    def _order(self, query_id: str) -> tuple[int, int]:
        """The most suspected query first: a fresh process shows whether it dies of that query alone."""
        record = self._records[query_id]
        return -record.deaths_alone, self._group_sizes[query_id]

    def _may_enter(self, query_id: str) -> bool:
        group = [*self._suspects_inside, query_id]
        fits = len(group) <= min(self._group_sizes[each] for each in group)
        return fits and not self._others_inside and self._waiting[0] == query_id
