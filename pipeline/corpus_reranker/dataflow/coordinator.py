"""Decisions that depend on all replicas: poison queries and the end of the input.

The coordinator keeps its state in a SQLite file on the driver's node, where Ray also restarts it, so that a lost
coordinator process forgets nothing. All calls are idempotent and Ray repeats them after a restart. The state lives
as long as one pass of the run.
"""

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corpus_reranker.dataflow.poison_query import ReplicaHistory
from corpus_reranker.dataflow.query_deaths import QueryDeaths
from corpus_reranker.dataflow.replica import ReplicaId

_CALL_TIMEOUT_SECONDS = 120.0
"""Timeout of one call. Ray takes seconds to start or restart the coordinator, on an overloaded machine a minute."""

_CLEANUP_SECONDS = 1.0
"""Timeout of the last call: Ray kills a stopped job 3 s after SIGTERM."""

_TABLES = """
CREATE TABLE IF NOT EXISTS costs (process TEXT PRIMARY KEY, cost REAL);
CREATE TABLE IF NOT EXISTS replicas (
    actor_id TEXT, process TEXT, queries_arrived INTEGER, queries_returned INTEGER, PRIMARY KEY (actor_id, process)
);
"""


class Coordinator:
    """The coordinator of one pass of a run."""

    def __init__(self, num_queries: int | None, state_path: Path | None = None, max_cost: float | None = None) -> None:
        """Open the state file; a restarted actor continues with the state before the restart.

        Args:
            num_queries: Queries of the pass. None if the number is unknown; the end of the input is then not reported.
            state_path: File of the state; None derives it from the Ray actor's id.
            max_cost: Maximum cost of the pass. None: no limit.
        """
        actor_id = "" if state_path else ray.get_runtime_context().get_actor_id()
        self._path = state_path or Path(tempfile.gettempdir(), f"corpus-reranker-coordinator-{actor_id}.sqlite")
        self._num_queries = num_queries
        self._max_cost = max_cost
        self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = OFF")  # the state must outlive the process, not the machine
        self._database.execute("PRAGMA journal_mode = WAL")  # the default creates and deletes a file for each call
        self._database.executescript(_TABLES)
        self._deaths = QueryDeaths(self._database)
        self._reported: dict[ReplicaId, tuple[int, int]] = {}
        self._num_arrived = 0

    def replica_started(self, replica: ReplicaId) -> ReplicaHistory:
        """Record that the replica's process starts, as in `QueryDeaths.start_process`."""
        return self._deaths.start_process(replica)

    def update_queries(self, replica: ReplicaId, completions: Mapping[str, int], ended: Sequence[str]) -> None:
        """Record which queries are in flight in the replica's process, as in `QueryDeaths.update`."""
        self._deaths.update(replica, completions, ended)

    def report_arrivals(self, replica: ReplicaId, queries_arrived: int, queries_returned: int) -> bool:
        """Record the totals of a replica's process and return whether every query of the pass is at some replica.

        Queries that an earlier process of the replica lost arrive again, so only those that it returned are counted.

        Args:
            replica: The reporting replica.
            queries_arrived: Queries given to this process so far.
            queries_returned: Queries of the blocks that this process has returned so far.
        """
        report = queries_arrived, queries_returned
        if self._reported.get(replica) != report:  # most reports change nothing, and the sum is over all replicas
            self._database.execute(
                "UPDATE replicas SET queries_arrived = queries_returned WHERE actor_id = ? AND process != ?",
                (replica.actor_id, replica.process),
            )
            values = (replica.actor_id, replica.process, *report)
            self._database.execute("INSERT OR REPLACE INTO replicas VALUES (?, ?, ?, ?)", values)
            ((self._num_arrived,),) = self._database.execute("SELECT sum(queries_arrived) FROM replicas")
            self._reported[replica] = report
        return self._num_queries is not None and self._num_arrived >= self._num_queries

    def report_cost(self, replica: ReplicaId, cost: float) -> bool:
        """Record what a replica's process has cost so far, and return whether the pass has cost `max_cost`."""
        self._database.execute("INSERT OR REPLACE INTO costs VALUES (?, ?)", (replica.process, cost))
        ((total,),) = self._database.execute("SELECT sum(cost) FROM costs")
        return self._max_cost is not None and total >= self._max_cost

    def delete_state(self) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)


class CoordinatorClient:
    """A replica's client of the coordinator. Without a coordinator, no deaths are known and the input never ends."""

    def __init__(self, replica: ReplicaId, coordinator: Any = None) -> None:
        """`coordinator` is a handle of a Coordinator, or None."""
        self._replica = replica
        self._coordinator = coordinator
        self.input_ended = self._max_cost_reached = False

    def replica_started(self) -> ReplicaHistory:
        """Announce this process, and return what is known about processes that died.

        Raises RayError if the coordinator does not answer in time: the replica must not start without it.
        """
        if self._coordinator is None:
            return ReplicaHistory()
        call = self._coordinator.replica_started.remote(self._replica)
        history: ReplicaHistory = ray.get(call, timeout=_CALL_TIMEOUT_SECONDS)
        return history

    async def update_queries(self, completions: Mapping[str, int], ended: Sequence[str]) -> bool:
        """Report which queries are in flight. Returns whether the coordinator has recorded it."""
        if self._coordinator is None:
            return True
        call = self._coordinator.update_queries.remote(self._replica, completions, ended)
        async with _repeatable_call():
            await call
            return True
        return False

    async def report_arrivals(self, queries_arrived: int, queries_returned: int) -> None:
        """Report the process's totals and update `input_ended`."""
        if self._coordinator is None or self.input_ended:
            return
        call = self._coordinator.report_arrivals.remote(self._replica, queries_arrived, queries_returned)
        async with _repeatable_call():
            self.input_ended = await call

    async def report_cost(self, cost: float) -> bool:
        """Report what the process has cost. Returns whether `max_cost` was reached at the last report that arrived."""
        if self._coordinator is None or self._max_cost_reached:
            return self._max_cost_reached
        call = self._coordinator.report_cost.remote(self._replica, cost)
        async with _repeatable_call():
            self._max_cost_reached = await call
        return self._max_cost_reached


@contextlib.asynccontextmanager
async def _repeatable_call() -> AsyncIterator[None]:
    """Give up on a call that fails or takes too long: the next report repeats it."""
    with contextlib.suppress(RayError, TimeoutError):
        async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
            yield


@contextlib.contextmanager
def running_coordinator(num_queries: int | None, max_cost: float | None = None) -> Iterator[Any]:
    """Start a coordinator on the driver's node, yield its handle, and delete its state at the end."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    coordinator: Any = ray.remote(Coordinator).options(**options).remote(num_queries, max_cost=max_cost)
    try:
        yield coordinator
    finally:
        with contextlib.suppress(Exception):  # a file of a few kB is left in the temporary folder
            ray.get(coordinator.delete_state.remote(), timeout=_CLEANUP_SECONDS)
        ray.kill(coordinator)
