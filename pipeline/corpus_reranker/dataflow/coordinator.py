"""Decisions that need to know about all replicas: poison queries and the end of the input.

The coordinator keeps its state in a SQLite file on the driver's node, where Ray also restarts it, so that a lost
coordinator process forgets nothing. All calls are idempotent and Ray repeats them after a restart. The state lives
as long as one pass of the run.
"""

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corpus_reranker.dataflow.replica_report import ReplicaId

_CALL_TIMEOUT_SECONDS = 120.0
"""Timeout of one call. Ray takes seconds to start or restart the coordinator, on an overloaded machine a minute."""

_CLEANUP_SECONDS = 1.0
"""Timeout of the last call: Ray kills a stopped job 3 s after SIGTERM."""

_TABLES = """
CREATE TABLE IF NOT EXISTS replicas (
    actor_id TEXT, process TEXT, queries_arrived INTEGER, queries_returned INTEGER, PRIMARY KEY (actor_id, process)
);
CREATE TABLE IF NOT EXISTS engine_deaths (process TEXT, query_id TEXT, PRIMARY KEY (process, query_id));
"""


class Coordinator:
    """The coordinator of one pass of a run."""

    def __init__(self, num_queries: int | None, state_path: Path | None = None) -> None:
        """Open the state file; a restarted actor continues with the state before the restart.

        Args:
            num_queries: Queries of the pass. None if the number is unknown; the end of the input is then not reported.
            state_path: File of the state; None derives it from the Ray actor's id.
        """
        actor_id = "" if state_path else ray.get_runtime_context().get_actor_id()
        self._path = state_path or Path(tempfile.gettempdir(), f"corpus-reranker-coordinator-{actor_id}.sqlite")
        self._num_queries = num_queries
        self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = OFF")  # the state must outlive the process, not the machine
        self._database.executescript(_TABLES)

    def engine_deaths(self) -> dict[str, int]:
        """Number of engine deaths at which each query was in flight; queries without one are absent."""
        return dict(self._database.execute("SELECT query_id, count(*) FROM engine_deaths GROUP BY query_id"))

    def record_engine_death(self, replica: ReplicaId, query_ids: Sequence[str]) -> None:
        """Record that the engine of `replica` died while these queries were in flight."""
        rows = [(replica.process, query_id) for query_id in query_ids]
        self._database.executemany("INSERT OR IGNORE INTO engine_deaths VALUES (?, ?)", rows)

    def report_arrivals(self, replica: ReplicaId, queries_arrived: int, queries_returned: int) -> bool:
        """Record the totals of a replica's process and return whether every query of the pass is at some replica.

        Queries that an earlier process of the replica lost arrive again, so only those that it returned are counted.

        Args:
            replica: The reporting replica.
            queries_arrived: Queries given to this process so far.
            queries_returned: Queries of the blocks that this process has returned so far.
        """
        self._database.execute(
            "UPDATE replicas SET queries_arrived = queries_returned WHERE actor_id = ? AND process != ?",
            (replica.actor_id, replica.process),
        )
        self._database.execute(
            "INSERT OR REPLACE INTO replicas VALUES (?, ?, ?, ?)",
            (replica.actor_id, replica.process, queries_arrived, queries_returned),
        )
        ((total,),) = self._database.execute("SELECT sum(queries_arrived) FROM replicas")
        return self._num_queries is not None and total >= self._num_queries

    def delete_state(self) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)


class CoordinatorClient:
    """A replica's client of the coordinator. Without a coordinator, it reports no deaths and no end of the input."""

    def __init__(self, replica: ReplicaId, coordinator: Any = None) -> None:
        """`coordinator` is a handle of a Coordinator, or None."""
        self._replica = replica
        self._coordinator = coordinator
        self.input_ended = False

    def engine_deaths(self) -> Mapping[str, int]:
        """Raises RayError if the coordinator does not answer in time: the replica must not start without it."""
        if self._coordinator is None:
            return {}
        deaths: Mapping[str, int] = ray.get(self._coordinator.engine_deaths.remote(), timeout=_CALL_TIMEOUT_SECONDS)
        return deaths

    def record_engine_death(self, query_ids: Sequence[str]) -> None:
        """Record that this replica's engine died. Raises RayError if the coordinator does not answer in time."""
        if self._coordinator is not None:
            call = self._coordinator.record_engine_death.remote(self._replica, query_ids)
            ray.get(call, timeout=_CALL_TIMEOUT_SECONDS)

    async def report_arrivals(self, queries_arrived: int, queries_returned: int) -> None:
        """Report the process's totals and update `input_ended`. A lost call is repeated by the next report."""
        if self._coordinator is None or self.input_ended:
            return
        call = self._coordinator.report_arrivals.remote(self._replica, queries_arrived, queries_returned)
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
                self.input_ended = await call


@contextlib.contextmanager
def running_coordinator(num_queries: int | None) -> Iterator[Any]:
    """Start a coordinator on the driver's node, yield its handle, and delete its state at the end."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    coordinator: Any = ray.remote(Coordinator).options(**options).remote(num_queries)
    try:
        yield coordinator
    finally:
        with contextlib.suppress(Exception):  # a file of a few kB is left in the temporary folder
            ray.get(coordinator.delete_state.remote(), timeout=_CLEANUP_SECONDS)
        ray.kill(coordinator)
