"""The Ray actor class of one replica."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import Any, NoReturn

import pyarrow as pa

from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.dataflow.block import result_block, with_window_limits
from corpus_reranker.dataflow.coordinator import CoordinatorClient
from corpus_reranker.dataflow.events import EventLog
from corpus_reranker.dataflow.guarded_loop import FAILED_EXIT_CODE, guarded_loop
from corpus_reranker.dataflow.poison_query import PoisonQueryPolicy
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.query_reranker import QueryReranker
from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.dataflow.reporting import report_periodically, send_reports
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.errors import EngineDeadError, RowError
from corpus_reranker.io import schemas
from corpus_reranker.io.quarantine import QuarantineWriter
from corpus_reranker.io.sources.rows import parse_row, python_rows


class RerankWorker:
    """Reranks blocks of rows, one query per row. Ray Data calls it for several blocks concurrently, each in a thread.

    All queries run on one event loop in a separate thread. A bad row becomes a failed row and never raises. If the
    engine dies, the process exits.
    """

    def __init__(self, config: dict[str, Any], schema: pa.Schema | None, run: RunServices | None = None) -> None:
        """Start the engine.

        Args:
            config: A dumped RerankerConfig.
            schema: Schema of the returned tables; None derives it from each block.
            run: Services of the run; None outside a run.
        """
        self._config = RerankerConfig.model_validate(config)
        self._shown = self._config.prompt.load_template().shown
        self._schema = schema
        self._run = run or RunServices()
        self._replica = ReplicaId.current()
        self._stats = ReplicaStats(self._replica, self._run.stats_actor)
        self._stats.replica_placed()
        self._coordinator = CoordinatorClient(self._replica, self._run.coordinator)
        self._queries_arrived = self._queries_returned = 0
        self._loop = guarded_loop()
        history = self._coordinator.replica_started()
        history.check_deaths(self._config.cluster.max_replica_deaths)
        try:
            self._poison_queries = PoisonQueryPolicy(history)
            self._in_flight = QueriesInFlight(self._coordinator, self._poison_queries.is_isolated)
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except Exception as error:  # Ray's own report hides the reason in a stack trace
            reason = f"{type(error).__name__}: {error}"
            if history.deaths:  # raising would end the run, which other replicas can finish
                self._exit(f"its engine did not start again: {reason}")
            self._stats.start_failed(reason)
            raise

    async def _start(self) -> None:
        self._events = EventLog(self._config.cluster.event_log, self._run.run_id)
        self._quarantine = QuarantineWriter(self._run.layout) if self._run.layout else None
        self._reranker = QueryReranker(self._config, self._replica, self._run, self._stats, self._in_flight)
        seconds = await self._reranker.start()
        self._stats.replica_started(seconds)
        self._events.write("replica_started", seconds=round(seconds, 1), **self._reranker.engine_info())
        reports = (self._report_to_stats, self._report_to_coordinator)
        self._reporting = asyncio.create_task(report_periodically(reports))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Rerank the queries of `block`, except those that have not begun when the run reaches `max_cost`."""
        return asyncio.run_coroutine_threadsafe(self._rerank_block(block), self._loop).result()

    async def _rerank_block(self, block: pa.Table) -> pa.Table:
        block = with_window_limits(block, self._run.window_limits)
        limits = () if self._run.window_limits is None else (schemas.MAX_WINDOWS,)
        queries = python_rows(block, self._shown, limits)
        self._queries_arrived += len(queries)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._rerank_row(row)) for row in queries]
        if not len(self._in_flight):  # possibly the last block of this replica: Ray ends its process soon
            await self._reranker.flush()
            await send_reports((self._report_to_stats,))
        self._queries_returned += len(queries)
        results = [None if task.cancelled() else task.result() for task in tasks]
        return await asyncio.to_thread(result_block, block, results, self._schema, self._shown, self._run.calibration)

    async def _rerank_row(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            request = parse_row(row, self._shown)
            self._poison_queries.check(request.query_id)
        except RowError as error:
            return self._fail(row, str(error))
        query_id = request.query_id
        limit = None if self._run.window_limits is None else row[schemas.MAX_WINDOWS]
        max_windows = self._reranker.max_windows(len(request.candidates), limit)
        async with self._poison_queries.isolation(query_id), self._reranker.admitted(query_id, max_windows) as slot:
            started_at = datetime.now(UTC)
            self._stats.plan_query(max_windows)
            try:
                result = await self._reranker.rerank(request, slot, limit)
            except EngineDeadError as error:
                self._events.write("engine_died", error=str(error), query_ids=self._in_flight.ids)
                self._exit(f"its engine died: {error}")
            except Exception as error:  # a faulty strategy or template fails this row, not its block
                return self._fail(row, f"{type(error).__name__}: {error}")
            self._stats.count_windows(result, max_windows)
            if self._quarantine is not None:
                await self._quarantine.write(result)
            num_duplicates = len(row[schemas.CANDIDATES]) - len(request.candidates)
            output = schemas.output_row(request, result, self._run.keep_reasoning, num_duplicates)
            return self._finish(output, started_at)

    def _fail(self, row: dict[str, Any], error: str) -> dict[str, Any]:
        self._stats.add_error(str(row[schemas.QUERY_ID]), error)
        return self._finish(schemas.unreadable_row(row, error))

    def _finish(self, row: dict[str, Any], started_at: datetime | None = None) -> dict[str, Any]:
        finished_at = datetime.now(UTC)
        row |= {"started_at": started_at or finished_at, "finished_at": finished_at}
        self._stats.count(f"queries_{row['status']}")
        self._events.query_finished(row)
        return row

    async def _report_to_stats(self) -> None:
        self._stats.send(self._reranker.report())

    async def _report_to_coordinator(self) -> None:
        """Report the state of the replica, and apply what the coordinator has decided."""
        await self._in_flight.report()
        await self._coordinator.report_arrivals(self._queries_arrived, self._queries_returned)
        if self._coordinator.input_ended:
            self._reranker.admission.end_input()
        if self._run.has_max_cost and await self._coordinator.report_cost(self._reranker.cost):
            self._reranker.admission.close()

    def _exit(self, reason: str) -> NoReturn:
        """End this process. Ray restarts the actor with a new engine and gives it its unfinished blocks again."""
        sys.stderr.write(f"replica {self._replica.process}: exiting because {reason}\n")
        self._stats.engine_died(reason)
        os._exit(FAILED_EXIT_CODE)
