"""Which queries are in flight in each process, and at how many deaths of a process each query was in flight."""

import sqlite3
from collections.abc import Mapping, Sequence

from corpus_reranker.dataflow.poison_query import DeathRecord
from corpus_reranker.dataflow.replica_report import ReplicaId

_TABLES = """
CREATE TABLE IF NOT EXISTS queries_in_flight (
    actor_id TEXT, process TEXT, query_id TEXT, completions INTEGER, PRIMARY KEY (process, query_id)
);
CREATE TABLE IF NOT EXISTS query_deaths (
    query_id TEXT PRIMARY KEY, deaths INTEGER, in_flight INTEGER, deaths_alone INTEGER, completions INTEGER
);
"""

_COUNT_DEATH = """
INSERT INTO query_deaths VALUES (:query_id, 1, :in_flight, :alone, :completions)
ON CONFLICT (query_id) DO UPDATE SET
    deaths = deaths + 1,
    in_flight = :in_flight,
    deaths_alone = iif(:alone, iif(:completions > completions, 1, deaths_alone + 1), deaths_alone),
    completions = max(completions, :completions)
"""


class QueryDeaths:
    """Tables of the coordinator's database. All calls are idempotent."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.executescript(_TABLES)

    def update(self, replica: ReplicaId, completions: Mapping[str, int], ended: Sequence[str]) -> None:
        """Record that queries are in flight in the replica's process, or no longer.

        A query that has ended loses its record: it killed no process.

        Args:
            replica: The reporting replica.
            completions: Queries in flight, with the number of completions that each got in this process.
            ended: Queries that are finished.
        """
        rows = [(replica.actor_id, replica.process, *each) for each in completions.items()]
        self._database.executemany("INSERT OR REPLACE INTO queries_in_flight VALUES (?, ?, ?, ?)", rows)
        ids = [(query_id,) for query_id in ended]
        in_process = [(replica.process, query_id) for query_id in ended]
        self._database.executemany("DELETE FROM queries_in_flight WHERE process = ? AND query_id = ?", in_process)
        self._database.executemany("DELETE FROM query_deaths WHERE query_id = ?", ids)

    def count_deaths(self, replica: ReplicaId) -> None:
        """Count the death of the process that `replica` replaces, for each query that was in flight in it."""
        of_lost_process = "FROM queries_in_flight WHERE actor_id = ? AND process != ?"
        keys = (replica.actor_id, replica.process)
        lost = self._database.execute(f"SELECT query_id, completions {of_lost_process}", keys).fetchall()
        with self._database:
            self._database.execute("BEGIN")
            for query_id, completions in lost:
                values = {"query_id": query_id, "in_flight": len(lost), "alone": len(lost) == 1}
                self._database.execute(_COUNT_DEATH, values | {"completions": completions})
            self._database.execute(f"DELETE {of_lost_process}", keys)

    def records(self) -> dict[str, DeathRecord]:
        """The record of each query that was in flight at a death and is not finished."""
        rows = self._database.execute("SELECT query_id, deaths, in_flight, deaths_alone FROM query_deaths")
        return {query_id: DeathRecord(*counts) for query_id, *counts in rows}
