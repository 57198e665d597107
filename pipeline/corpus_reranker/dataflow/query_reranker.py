"""Reranks one query with the models of a replica."""

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from corpus_reranker.cache.completion_store import CompletionStore, open_completion_store
from corpus_reranker.cache.completions import CompletionCache, open_completion_cache
from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.dataflow.admission import Admission, QuerySlot
from corpus_reranker.dataflow.capacity import Capacity
from corpus_reranker.dataflow.generate import compose_generate
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.engines.model_fingerprint import answers_fingerprint
from corpus_reranker.engines.registry import create_engine, create_pre_ranker
from corpus_reranker.ranking.pre_ranker import cascade
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.strategies.base import Strategy
from corpus_reranker.types import Generate, RerankRequest, RerankResult, SamplingParams


class QueryReranker:
    """Engine, pre-ranker, prompt builder, admission, completion cache and completion store of one replica."""

    def __init__(
        self,
        config: RerankerConfig,
        replica: ReplicaId,
        run: RunServices,
        stats: ReplicaStats,
        in_flight: QueriesInFlight,
    ) -> None:
        self._in_flight = in_flight
        self._config = config
        self._replica = replica
        self._run = run
        self._stats = stats
        self._counts: Counter[str] = Counter()
        context = replace(config.engine_context, count=self._count)
        self._engine = create_engine(config.engine, context)
        self._pre_ranker = create_pre_ranker(config.pre_ranker.engine, context) if config.pre_ranker else None
        self._prompt_builder = create_prompt_builder(config)
        self._completion_cache: CompletionCache | None = None
        self._completion_store: CompletionStore | None = None
        self._sampling: SamplingParams
        self._continue_answers: Callable[[Generate], Generate]

    async def start(self) -> float:
        """Load the models, and return how many seconds that took.

        Raises EngineStartError or ConfigError with the reason.
        """
        started = time.monotonic()
        await self._engine.start()
        if self._pre_ranker is not None:
            await self._pre_ranker.start()
        config, run = self._config, self._run
        self._sampling, self._continue_answers = self._answer_settings()
        capacity = self._capacity(self._engine.info())
        self.admission = Admission(capacity, config.generation.max_tokens, config.cluster.queries_in_flight)
        if run.layout is not None and (run.cache_completions or run.completion_index):
            self._completion_cache = open_completion_cache(
                run.layout,
                self._replica.actor_id,
                run.completion_index,
                self._stats.count,
                read_only=not run.cache_completions,
                keep_all=run.window_limits is not None,
            )
        if config.cache.path is not None:
            self._completion_store = open_completion_store(
                config.cache.path,
                config.storage,
                answers_fingerprint(config.engine, config.storage, self._engine.info()),
                self._engine.capabilities.token_ids,
                self._stats.count,
            )
            await self._completion_store.load()
        return time.monotonic() - started

    async def flush(self) -> None:
        """Commit what the completion store holds in memory. Call it when no query is in flight: the process may end."""
        if self._completion_store is not None:
            await self._completion_store.flush()

    def engine_info(self) -> dict[str, Any]:
        """Name, version and capacity of the models (JSON values)."""
        return self._engine.info() | ({} if self._pre_ranker is None else {"pre_ranker": self._pre_ranker.info()})

    def report(self) -> ReplicaReport:
        """The replica's current load. An engine whose capacity has changed gets more or fewer windows from now on."""
        admission, info = self.admission, self.engine_info()
        admission.update_capacity(self._capacity(info))
        load = admission.queries_in_flight, admission.windows_in_flight, admission.target_windows_in_flight
        return ReplicaReport(self._replica, *load, info)

    @property
    def cost(self) -> float:
        """What the endpoint has billed since the start of the engine; 0 without prices."""
        prices = self._config.engine.token_prices
        return prices.cost(self._counts) if prices else 0.0

    def max_windows(self, num_candidates: int, limit: int | None = None) -> int:
        """Maximum number of windows of a query with `num_candidates` candidates. `limit` as in `rerank`."""
        windows: int = self._strategy(limit).max_windows(self._config.num_ranked(num_candidates))
        return windows

    @contextlib.asynccontextmanager
    async def admitted(self, query_id: str, max_windows: int) -> AsyncIterator[QuerySlot]:
        """Wait for a query slot and hold it. Meanwhile the query is in flight."""
        requested = time.monotonic()
        async with self.admission.query(max_windows) as slot:
            self._stats.observe("queue_wait", time.monotonic() - requested)
            async with self._in_flight.query(query_id):
                yield slot

    async def rerank(self, request: RerankRequest, slot: QuerySlot, limit: int | None = None) -> RerankResult:
        """Rerank one query: all candidates, or those that the pre-ranker keeps.

        Args:
            request: The query.
            slot: The query's slot.
            limit: Maximum number of windows, instead of the strategy's own.

        Raises EngineDeadError if an engine dies, and any error of a faulty strategy or template.
        """
        listwise = partial(self._rerank_listwise, slot, self._strategy(limit))
        if self._pre_ranker is None or self._config.pre_ranker is None:
            return await listwise(request)
        timeout_seconds = self._config.policy.window_timeout_seconds
        result = await cascade(request, self._pre_ranker.score, self._config.pre_ranker.keep, timeout_seconds, listwise)
        if result.pre_ranker_scores is None:
            self._stats.count("pre_ranker_failures")
            self._stats.add_error(result.query_id, result.error or "pre-ranker failed")
        return result

    async def _rerank_listwise(self, slot: QuerySlot, strategy: Strategy, request: RerankRequest) -> RerankResult:
        async with compose_generate(
            self._engine.generate,
            self.admission,
            slot,
            self._stats,
            self._in_flight,
            self._completion_cache,
            self._completion_store,
            self._continue_answers,
            request.query_id,
        ) as generate:
            return await rerank_query(
                request,
                generate,
                strategy=strategy,
                prompt_builder=self._prompt_builder,
                parser=self._prompt_builder.parser,
                sampling=self._sampling,
                policy=self._config.policy,
                encode=self._prompt_builder.tokenizer.encode,
            )

    def _strategy(self, limit: int | None) -> Strategy:
        strategy: Strategy = self._config.strategy if limit is None else self._config.strategy.with_max_windows(limit)
        return strategy

    def _count(self, name: str, amount: int) -> None:
        self._counts[name] += amount
        self._stats.count(name, amount)

    def _capacity(self, info: Mapping[str, Any]) -> Capacity:
        return Capacity.from_engine_info(self._config.engine.max_num_seqs, info)

    def _answer_settings(self) -> tuple[SamplingParams, Callable[[Generate], Generate]]:
        """The sampling parameters, and the wrapper that continues answers, for what the started engine can do.

        If the config closes long reasoning, the engine does so within the request, or the wrapper with a second one.
        """
        generation, parser, can = self._config.generation, self._prompt_builder.parser, self._engine.capabilities
        max_reasoning_tokens = generation.max_reasoning_tokens if generation.close_reasoning else None
        budgets = (max_reasoning_tokens, None) if can.reasoning_budget else (None, max_reasoning_tokens)
        engine_budget, wrapper_budget = budgets
        sampling = replace(generation.sampling_params(parser), max_reasoning_tokens=engine_budget)
        if not can.continuation:
            return sampling, lambda generate: generate
        encode = self._prompt_builder.tokenizer.encode
        return sampling, lambda generate: parser.extend(generate, encode, wrapper_budget)
