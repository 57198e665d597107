"""The actor that is one replica: an engine, and as many queries at once as it can hold."""

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

import pyarrow as pa
import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from corpus_reranker.answers.continuation import whole_answers
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.admission import Admission, Chain
from corpus_reranker.dataflow.capacity import Capacity
from corpus_reranker.dataflow.events import EventLog
from corpus_reranker.engines.registry import create_engine, create_pre_ranker
from corpus_reranker.errors import EngineDeadError, RowError
from corpus_reranker.io.quarantine import QuarantineWriter, write_sample
from corpus_reranker.io.schemas import CANDIDATES, PROBLEM, QUERY_ID, output_row, output_table, unreadable_row
from corpus_reranker.io.sinks.output import Output
from corpus_reranker.io.sources.rows import parse_row
from corpus_reranker.ranking.pre_ranker import cascade
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.run.dry_run import make_prompt_builder
from corpus_reranker.run.stats import ReplicaReport, StatsActor
from corpus_reranker.types import ANSWERED, Completion, Generate, Prompt, RerankRequest, RerankResult, SamplingParams

_REPORT_SECONDS = 1.0
"""Between two reports to the tally."""

_ENGINE_DEAD_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h. Any exit makes Ray restart the actor and ask its queries again."""

_SAMPLED_QUERIES = 2
"""Of a replica, whose windows are kept with prompts and answers for the run report, however they went."""

_SUSPECT_DEATHS = 2
"""A query in flight at this many engine deaths is asked with no other suspect beside it ..."""

_POISON_DEATHS = 3
"""... and one in flight at this many is not asked again: it fails, and the rest of its block goes on."""


class RerankWorker:
    """Ray Data calls it with blocks of rows, a query each; all run side by side, each on its own chain of windows.

    Everything that touches the engine runs on one event loop in a thread of this actor, so that nothing Ray does
    on its own loop delays a window. A row never raises. A dead engine ends the process.
    """

    def __init__(
        self,
        config: dict[str, Any],
        schema: pa.Schema,
        stats: "ActorHandle[StatsActor]",
        completion_index: dict[str, list[str]] | None,
    ) -> None:
        self._config = JobConfig.model_validate(config)
        self._schema = schema
        self._stats = stats
        self._completion_index = completion_index
        self._replica = f"{socket.gethostname()}:{os.getpid()}"
        self._counts: Counter[str] = Counter()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._errors: list[str] = []
        self._queries: set[str] = set()
        self._deaths: dict[str, int] = stats_call(stats.deaths.remote())
        self._run_id: str = stats_call(stats.run_id.remote())
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rerank", daemon=True).start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except Exception as error:  # told to the driver in plain words, because Ray's report buries it in a stack
            stats_call(stats.start_failed.remote(f"{type(error).__name__}: {error}"))
            raise

    async def _start(self) -> None:
        config, started = self._config, time.monotonic()
        self._events = EventLog(config.cluster.event_log, self._run_id)
        self._engine = create_engine(config.engine, config.engine_context)
        self._pre_ranker = (
            create_pre_ranker(config.pre_ranker.engine, config.engine_context) if config.pre_ranker else None
        )
        self._template = config.prompt.load_template()
        self._prompt_builder = make_prompt_builder(config)
        await self._engine.start()
        if self._pre_ranker is not None:
            await self._pre_ranker.start()
        output = Output(config.output, config.storage)
        self._completion_cache = None
        if self._completion_index is not None:
            actor_id = ray.get_runtime_context().get_actor_id()  # the same when Ray has restarted it
            assert actor_id
            self._completion_cache = output.completion_cache(actor_id, self._completion_index, self._count_one)
        self._quarantine = QuarantineWriter(output.filesystem, output.quarantine_folder)
        self._write_sample = partial(write_sample, output.filesystem, output.samples_folder)
        self._samples_left = _SAMPLED_QUERIES
        capacity = Capacity(config.engine.max_num_seqs, self._engine.info().get("kv_cache_tokens"))
        self._admission = Admission(capacity, config.generation.max_tokens, config.cluster.queries_in_flight)
        self._one_suspect = asyncio.Lock()
        seconds = time.monotonic() - started
        self._stats.started.remote(self._replica, seconds)
        self._events.write("replica_started", seconds=round(seconds, 1), **self._engine.info())
        self._reporting = asyncio.create_task(self._report())

    async def __call__(self, block: pa.Table) -> pa.Table:
        """The output of `block`, when its last query is done. Which of its queries go on now, the admission says."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._rerank_block(block), self._loop))

    async def _rerank_block(self, block: pa.Table) -> pa.Table:
        rows = block.select([QUERY_ID, "query", CANDIDATES, PROBLEM]).to_pylist()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._rerank(row)) for row in rows]
        return output_table([task.result() for task in tasks], block, self._schema)

    async def _rerank(self, row: dict[str, Any]) -> dict[str, Any]:
        self._counts["arrived"] += 1
        try:
            request = parse_row(row, self._config.input)
        except RowError as error:
            return self._finished(unreadable_row(row, str(error)))
        async with self._admitted(request) as admitted:
            started_at = datetime.now(UTC)
            if isinstance(admitted, str):
                return self._finished(unreadable_row(row, admitted))
            try:
                result = await self._ranked(request, admitted)
            except EngineDeadError as error:
                self._die(error)
            except Exception as error:  # a strategy or template at fault: this row's failure, never its block's
                return self._finished(unreadable_row(row, f"{type(error).__name__}: {error}"))
            self._count(result)
            if any(window.status != "complete" for window in result.windows):
                await asyncio.to_thread(self._quarantine.write, result)
            if self._samples_left:
                self._samples_left -= 1
                await asyncio.to_thread(self._write_sample, result)
            return self._finished(output_row(request, result, self._config.output.keep_reasoning), started_at)

    async def _ranked(self, request: RerankRequest, chain: Chain) -> RerankResult:
        """By the strategy alone, or over what the pre-ranker keeps."""
        pre_ranker, policy = self._config.pre_ranker, self._config.policy
        listwise = partial(self._listwise, chain)
        if pre_ranker is None or self._pre_ranker is None:
            return await listwise(request)
        result = await cascade(
            request, self._pre_ranker.score, pre_ranker.keep, policy.window_timeout_seconds, listwise
        )
        if result.pre_ranker_scores is None:
            self._counts["pre_ranker_failures"] += 1
            self._errors = [*self._errors[-4:], f"{result.query_id}: {result.error}"]
        return result

    async def _listwise(self, chain: Chain, request: RerankRequest) -> RerankResult:
        generate: Generate = partial(self._generate, chain)
        completion_cache = self._completion_cache
        caching = (
            completion_cache.caching(request.query_id, generate)
            if completion_cache
            else contextlib.nullcontext(generate)
        )
        async with caching as generate:
            return await rerank_query(
                request,
                self._response_lengths(generate),
                self._config.strategy,
                self._prompt_builder,
                self._template.answer_format,
                self._config.generation.sampling_params(self._template.answer_format),
                self._config.policy,
                self._template.identifiers,
                self._prompt_builder.tokenizer.encode,
            )

    @contextlib.asynccontextmanager
    async def _admitted(self, request: RerankRequest) -> AsyncIterator[Chain | str]:
        """Hold one of the replica's places for the query's chain. Yields why instead if it must not be asked."""
        query_id = request.query_id
        max_windows = self._config.strategy.max_windows(self._config.num_ranked(len(request.candidates)))
        deaths = self._deaths.get(query_id, 0)
        if deaths >= _POISON_DEATHS:
            yield f"the engine died {deaths} times while this query was in flight"
            return
        alone = self._one_suspect if deaths >= _SUSPECT_DEATHS else contextlib.nullcontext()
        requested = time.monotonic()
        async with alone, self._admission.query(max_windows) as chain:
            self._seconds["wait"].append(time.monotonic() - requested)
            self._queries.add(query_id)
            try:
                yield chain
            finally:
                self._queries.discard(query_id)

    def _engine_info(self) -> dict[str, Any]:
        return self._engine.info() | ({} if self._pre_ranker is None else {"pre_ranker": self._pre_ranker.info()})

    def _response_lengths(self, generate: Generate) -> Generate:
        """How the windows of one query are asked."""
        if self._template.answer_format != "reasoning":
            return generate
        generation = self._config.generation
        cap_tokens = generation.max_reasoning_tokens if generation.close_reasoning else None
        return whole_answers(generate, self._prompt_builder.tokenizer.encode, cap_tokens)

    async def _generate(self, chain: Chain, prompt: Prompt, params: SamplingParams) -> Completion:
        async with self._admission.window(chain, len(prompt.token_ids)):
            completion = await self._engine.generate(prompt, params)
        self._admission.answered(completion)
        self._counts["completions"] += 1
        self._counts["prompt_tokens"] += completion.prompt_tokens
        self._counts["output_tokens"] += completion.output_tokens
        return completion

    def _count_one(self, what: str) -> None:
        self._counts[what] += 1

    def _count(self, result: RerankResult) -> None:
        for window in result.windows:
            self._counts[f"windows_{window.status}"] += 1
            self._seconds["window"].append(window.latency_seconds)
            if window.status not in ANSWERED:
                self._errors = [*self._errors[-4:], f"{result.query_id}: {window.error or window.status}"]

    def _finished(self, row: dict[str, Any], started_at: datetime | None = None) -> dict[str, Any]:
        finished_at = datetime.now(UTC)
        row |= {"started_at": started_at or finished_at, "finished_at": finished_at}
        self._counts[f"queries_{row['status']}"] += 1
        self._events.query_finished(row)
        if len(self._queries) <= 1:  # maybe the last of the run: Ray ends this process soon
            self._send_report()
        return row

    async def _report(self) -> None:
        """Tell the tally what happened, for as long as this replica lives."""
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            try:
                if await self._send_report():
                    self._admission.end()
            except RayError:  # the tally is starting again somewhere else
                continue

    def _send_report(self) -> "ObjectRef[bool]":
        counts, self._counts, errors, self._errors = self._counts, Counter(), self._errors, []
        report = ReplicaReport(
            self._replica,
            self._admission.queries,
            self._admission.windows,
            self._admission.target,
            self._engine_info(),
        )
        seconds, self._seconds = dict(self._seconds), defaultdict(list)
        reply: ObjectRef[bool] = self._stats.report.remote(report, counts, seconds, errors)
        return reply

    def _die(self, error: EngineDeadError) -> NoReturn:
        """End this process: Ray restarts the actor with a new engine and asks its unfinished blocks again."""
        sys.stderr.write(f"replica {self._replica}: engine dead, ending the replica: {error}\n")
        self._events.write("engine_died", error=str(error), query_ids=sorted(self._queries))
        with contextlib.suppress(Exception):  # best effort: the process ends whatever the tally says
            stats_call(self._stats.engine_died.remote(self._replica, sorted(self._queries), str(error)))
        os._exit(_ENGINE_DEAD_EXIT_CODE)


def stats_call(reference: Any) -> Any:
    """Wait, not for ever, for an answer of the tally."""
    return ray.get(reference, timeout=30)
