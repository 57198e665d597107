"""The coordinator's tables of queries in flight and of deaths: which queries were in flight when a process died."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from corpus_reranker.dataflow.poison_query import DeathRecord, ReplicaHistory
from corpus_reranker.dataflow.replica import ReplicaId

_TABLES = """
CREATE TABLE IF NOT EXISTS processes (
    actor_id TEXT PRIMARY KEY, process TEXT, solo_query TEXT, deaths INTEGER, deaths_without_progress INTEGER,
    refuted_solo_deaths INTEGER
);
CREATE TABLE IF NOT EXISTS queries_in_flight (
    actor_id TEXT, process TEXT, query_id TEXT, completions INTEGER, PRIMARY KEY (process, query_id)
);
CREATE TABLE IF NOT EXISTS query_deaths (
    query_id TEXT PRIMARY KEY, deaths INTEGER, in_flight INTEGER, solo_deaths INTEGER, completions INTEGER
);
"""

_HISTORY = """
SELECT solo_query, deaths, deaths_without_progress, refuted_solo_deaths FROM processes WHERE actor_id = ?
"""

_COUNT_DEATH = """
INSERT INTO query_deaths VALUES (:query_id, 1, :in_flight, 0, :completions)
ON CONFLICT (query_id) DO UPDATE SET
    deaths = deaths + 1, in_flight = :in_flight, solo_deaths = solo_deaths + :solo_death
"""


class QueryDeaths:
    """Counts the deaths of processes for each query that was in flight, in SQLite. All calls are idempotent."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.executescript(_TABLES)

    def start_process(self, replica: ReplicaId) -> ReplicaHistory:
        """Record that the replica's process starts, and that the actor's process before it has died.

        Returns:
            The deaths of earlier processes. A query that was alone in the process before is the solo query of this one.
        """
        key = (replica.actor_id,)
        with self._database:
            self._database.execute("BEGIN")
            values = (*key, replica.process)
            self._database.execute("INSERT OR IGNORE INTO processes VALUES (?, ?, NULL, 0, 0, 0)", values)
            process, solo_query = self._one("SELECT process, solo_query FROM processes WHERE actor_id = ?", key)
            if process != replica.process:
                self._database.execute(
                    "UPDATE processes SET process = ?, solo_query = ?, deaths = deaths + 1,"
                    " deaths_without_progress = deaths_without_progress + 1 WHERE actor_id = ?",
                    (replica.process, self._count_death(replica, solo_query), *key),
                )
        return ReplicaHistory(self.records(), *self._one(_HISTORY, key))

    def update(self, replica: ReplicaId, completions: Mapping[str, int], ended: Sequence[str]) -> None:
        """Record which queries are in flight in the replica's process, and which have ended.

        A query that has ended loses its record: it killed no process.

        Args:
            replica: The reporting replica.
            completions: Queries in flight, with the number of completions that each got in this process.
            ended: Queries that are finished.
        """
        with self._database:
            self._database.execute("BEGIN")
            for query_id in ended:
                self._end(replica, query_id)
            for query_id, count in completions.items():
                self._run(replica, query_id, count)

    def records(self) -> dict[str, DeathRecord]:
        """The record of each query that was in flight at a death and is not finished."""
        rows = self._database.execute("SELECT query_id, deaths, in_flight, solo_deaths FROM query_deaths")
        return {query_id: DeathRecord(*counts) for query_id, *counts in rows}

    def _count_death(self, replica: ReplicaId, solo_query: str | None) -> str | None:
        """Count a death for each query that was in flight in the actor's process, and return the next solo query.

        If no query was in flight, the solo run has not begun, and its query stays the next one.
        """
        of_lost_process = "FROM queries_in_flight WHERE actor_id = ? AND process != ?"
        keys = (replica.actor_id, replica.process)
        lost = self._database.execute(f"SELECT query_id, completions {of_lost_process}", keys).fetchall()
        for query_id, completions in lost:
            solo_death = len(lost) == 1 and query_id == solo_query
            values = {"query_id": query_id, "in_flight": len(lost), "solo_death": solo_death}
            self._database.execute(_COUNT_DEATH, values | {"completions": completions})
        self._database.execute(f"DELETE {of_lost_process}", keys)
        if not lost:
            return solo_query
        return str(lost[0][0]) if len(lost) == 1 else None

    def _end(self, replica: ReplicaId, query_id: str) -> None:
        in_flight = "DELETE FROM queries_in_flight WHERE process = ? AND query_id = ?"
        self._database.execute(in_flight, (replica.process, query_id))
        self._progress(replica, query_id)
        self._database.execute("DELETE FROM query_deaths WHERE query_id = ?", (query_id,))

    def _run(self, replica: ReplicaId, query_id: str, completions: int) -> None:
        """Record a query in flight. The solo run of another query has ended."""
        row = (replica.actor_id, replica.process, query_id, completions)
        self._database.execute("INSERT OR REPLACE INTO queries_in_flight VALUES (?, ?, ?, ?)", row)
        most = self._one("SELECT completions FROM query_deaths WHERE query_id = ?", (query_id,))
        if most and completions > most[0]:
            self._progress(replica, query_id)
            update = "UPDATE query_deaths SET solo_deaths = 0, completions = ? WHERE query_id = ?"
            self._database.execute(update, (completions, query_id))
        update = "UPDATE processes SET solo_query = NULL WHERE actor_id = ? AND solo_query != ?"
        self._database.execute(update, (replica.actor_id, query_id))

    def _progress(self, replica: ReplicaId, query_id: str) -> None:
        """Record progress of a query, which ends its solo run and refutes its earlier solo deaths."""
        key = (replica.actor_id,)
        self._database.execute("UPDATE processes SET deaths_without_progress = 0 WHERE actor_id = ?", key)
        update = "UPDATE processes SET solo_query = NULL WHERE actor_id = ? AND solo_query = ?"
        self._database.execute(update, (*key, query_id))
        failed = self._one("SELECT solo_deaths FROM query_deaths WHERE query_id = ?", (query_id,))
        if failed and failed[0]:
            update = "UPDATE processes SET refuted_solo_deaths = refuted_solo_deaths + ? WHERE actor_id = ?"
            self._database.execute(update, (*failed, *key))

    def _one(self, query: str, values: Sequence[str]) -> Any:
        return self._database.execute(query, values).fetchone()
