"""Composes the `generate` function of a query: the engine's `generate` inside its wrappers."""

import contextlib
from collections.abc import AsyncIterator, Callable

from corpus_reranker.cache.completion_store import CompletionStore
from corpus_reranker.cache.completions import CompletionCache
from corpus_reranker.dataflow.admission import Admission, QuerySlot
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams


@contextlib.asynccontextmanager
async def compose_generate(
    engine_generate: Generate,
    admission: Admission,
    slot: QuerySlot,
    stats: ReplicaStats,
    in_flight: QueriesInFlight,
    completion_cache: CompletionCache | None,
    completion_store: CompletionStore | None,
    continue_answers: Callable[[Generate], Generate],
    query_id: str,
) -> AsyncIterator[Generate]:
    """Context manager that composes the `generate` of one query.

    From the innermost wrapper outwards:

    1. Admission: a request waits for a window slot and holds it until its completion arrives. The completion's
       lengths update the replica's target; its tokens are counted.
    2. Completion cache, if there is one: a request whose completion an earlier pass stored takes no slot and never
       reaches the engine. Any other completion is stored before it is returned.
    3. Completion store, if there is one: the same for completions of other runs. It comes before the cache, which
       therefore does not store its hits again.
    4. Continuation, for answer formats with reasoning: a completion that stops before its answer is continued. Every
       continued part is admitted and cached as a separate request.
    5. Counts: every request counts as progress of the run, answered or not. Completions of an isolated query are
       reported to the coordinator before its next request.

    Args:
        engine_generate: The engine's `generate`.
        admission: Admission control of the replica.
        slot: The query's slot.
        stats: Counts the engine's completions and all requests.
        in_flight: Reports the progress of isolated queries.
        completion_cache: Completions of this run. None: they are not kept.
        completion_store: Completions of all runs. None: they are not kept.
        continue_answers: The answer parser's `extend`.
        query_id: The query.
    """

    async def generate_in_slot(prompt: Prompt, params: SamplingParams) -> Completion:
        async with admission.window(slot, len(prompt.token_ids)):
            completion = await engine_generate(prompt, params)
        admission.update_lengths(completion)
        stats.count_completion(completion)
        return completion

    async with contextlib.AsyncExitStack() as stack:
        generate: Generate = generate_in_slot
        if completion_cache is not None:
            generate = await stack.enter_async_context(completion_cache.caching(query_id, generate))
        if completion_store is not None:
            generate = completion_store.caching(generate)
        continued = continue_answers(generate)

        async def generate_and_count(prompt: Prompt, params: SamplingParams) -> Completion:
            try:
                completion = await continued(prompt, params)
            finally:
                stats.count("requests")
            await in_flight.count_completion(query_id)
            return completion

        yield generate_and_count
