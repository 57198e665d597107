"""Poison queries: queries that end the process of every replica that works on them.

A death shows only which queries were in flight. Suspects therefore run in groups that shrink with each death, until a
query was alone in a process that died. The next process of that replica begins with the query's trial: no other query
runs before it has made progress. The trial fails if the process dies first. An engine that answers at least once
before it dies fails no trial, however often it dies.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from corpus_reranker.errors import ReplicaDeathsError, RowError
from corpus_reranker.formatting import counted

_SUSPECT_DEATHS = 2
"""A query that was in flight at this many deaths is a suspect. One death is most often that of an engine or a node."""

_GROUP_DIVISOR = 4
"""Suspects run in groups of this fraction of those that died together: a poison query among 256 is alone after 4
further deaths, each of which costs the start of an engine."""

_FAILED_TRIALS = 3
"""A query is poison after this many trials in a row that failed."""

_FAILED_TRIALS_OF_FAULTY_ENGINE = 10
"""The same on a replica where a query made progress after a failed trial: there, the engine ends trials, too."""

_TRIAL_WAIT_SECONDS = 10.0
"""How long other queries wait for the query of the trial to arrive. Ray sends a restarted actor all of its blocks at
once, but a query can have moved to another replica."""


@dataclass(frozen=True, slots=True)
class DeathRecord:
    """The deaths of processes at which a query was in flight.

    Attributes:
        deaths: Number of deaths.
        in_flight: Queries in flight at the last one.
        failed_trials: Trials that failed since the query last got more completions than ever before.
    """

    deaths: int
    in_flight: int
    failed_trials: int = 0

    @property
    def group_size(self) -> int | None:
        """Maximum number of suspects that may run together with this query; None: it is no suspect."""
        suspect = self.deaths >= _SUSPECT_DEATHS or self.in_flight == 1
        return max(1, self.in_flight // _GROUP_DIVISOR) if suspect else None


@dataclass(frozen=True, slots=True)
class ReplicaHistory:
    """Deaths of earlier processes, as of the start of a replica's process.

    Attributes:
        records: The record of each query that was in flight at a death in any replica and is not finished.
        trial: The query that runs first, if any.
        deaths: Deaths of this replica's processes.
        deaths_without_progress: Those since one of its queries last made progress.
        refuted_trials: Failed trials of this replica after which the query made progress.
    """

    records: Mapping[str, DeathRecord] = field(default_factory=dict)
    trial: str | None = None
    deaths: int = 0
    deaths_without_progress: int = 0
    refuted_trials: int = 0

    def check_deaths(self, max_deaths: int) -> None:
        """Raises ReplicaDeathsError, which ends the run, after more than `max_deaths` deaths without progress."""
        if self.deaths_without_progress > max_deaths:
            raise ReplicaDeathsError(
                f"the process of a replica on {socket.gethostname()} died {self.deaths_without_progress} times "
                "without an answered window in between (cluster.max_replica_deaths)"
            )

    def is_poison(self, query_id: str) -> bool:
        """Whether the query is set aside."""
        record = self.records.get(query_id)
        needed = _FAILED_TRIALS_OF_FAULTY_ENGINE if self.refuted_trials else _FAILED_TRIALS
        return record is not None and record.failed_trials >= needed


class PoisonQueryPolicy:
    """Runs suspects apart from other queries, in groups that shrink with each death, and a trial before all others."""

    def __init__(self, history: ReplicaHistory) -> None:
        self._history = history
        self._group_sizes = {key: size for key, record in history.records.items() if (size := record.group_size)}
        trial = history.trial
        self._trial = trial if trial in self._group_sizes and not history.is_poison(trial) else None
        self._trial_timer: asyncio.Task[None] | None = None
        self._waiting: list[str] = []
        self._suspects_inside: list[str] = []
        self._others_inside = 0
        self._changed = asyncio.Condition()

    def check(self, query_id: str) -> None:
        """Raises RowError for a poison query."""
        if self._history.is_poison(query_id):
            record = self._history.records[query_id]
            raise RowError(
                f"its replica's process died {counted(record.deaths, 'time')} while this query was in flight,"
                f" the last {record.failed_trials} times with no other query"
            )

    def is_suspect(self, query_id: str) -> bool:
        return query_id in self._group_sizes

    def isolation(self, query_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Context in which a query runs: suspects with few others of their kind, other queries without suspects."""
        if not self._group_sizes:
            return contextlib.nullcontext()
        if self._trial and not self._trial_timer:
            self._trial_timer = asyncio.create_task(self._await_trial())
        return self._among_suspects(query_id) if self.is_suspect(query_id) else self._without_suspects()

    async def _await_trial(self) -> None:
        await asyncio.sleep(_TRIAL_WAIT_SECONDS)
        async with self._changed:
            if self._trial not in self._suspects_inside:
                self._trial = None
                self._changed.notify_all()

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
                self._trial = None
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def _without_suspects(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not (self._trial or self._waiting or self._suspects_inside))
            self._others_inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._others_inside -= 1
                self._changed.notify_all()

    def _order(self, query_id: str) -> tuple[int, int]:
        """The most suspected query first."""
        return -self._history.records[query_id].failed_trials, self._group_sizes[query_id]

    def _may_enter(self, query_id: str) -> bool:
        if self._trial:
            return query_id == self._trial
        group = [*self._suspects_inside, query_id]
        fits = len(group) <= min(self._group_sizes[each] for each in group)
        return fits and not self._others_inside and self._waiting[0] == query_id
