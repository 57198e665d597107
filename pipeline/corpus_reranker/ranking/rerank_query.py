"""The heart: one query, its windows, its new order. No Ray, no vLLM, no Parquet."""

import asyncio
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from corpus_reranker.answers.continuation import FORCED, force_ranking
from corpus_reranker.answers.permutation import (
    AnswerFormat,
    Identifiers,
    Permutation,
    apply_permutation,
    identifier_names,
    order_by_logprobs,
    parse_permutation,
)
from corpus_reranker.errors import EngineDeadError, first_error
from corpus_reranker.ranking.strategies import Strategy
from corpus_reranker.types import (
    ANSWERED,
    Completion,
    Generate,
    Prompt,
    QueryStatus,
    RerankRequest,
    RerankResult,
    SamplingParams,
    WindowOutcome,
    WindowStatus,
)

Render: TypeAlias = Callable[[Sequence[int]], Prompt]
"""The prompt that shows the candidates at these indices, in this order."""

PromptBuilder: TypeAlias = Callable[[RerankRequest], Render]

Forced: TypeAlias = tuple[Prompt, SamplingParams, str]
"""What to ask for a ranking and nothing else, and what the model has said before it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait for a window, and how often to ask it again when no usable answer came.

    A retry samples with another seed; at temperature 0 that alone would repeat the same answer, so a retry
    samples at `retry_temperature` or the configured temperature, whichever is higher. Before a retry after an
    error the window waits `backoff_seconds`, doubled each time, times a random factor from 0.5 to 1.5.
    A query past its deadline asks no more windows; those left keep their order with status `timeout`.

    A window whose attempts all came back without a ranking keeps its order, or with `force_answer` is asked a last time
    with the engine letting through nothing but identifiers: finish_reason `forced`. A reasoning model's last thoughts
    are kept for it and closed. For answer formats `reasoning` and `plain`.
    """

    max_attempts: int = 2
    retry_temperature: float = 0.6
    backoff_seconds: float = 1.0
    window_timeout_seconds: float = 1800.0
    query_deadline_seconds: float = 14400.0
    force_answer: bool = False

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if self.window_timeout_seconds <= 0 or self.query_deadline_seconds <= 0:
            raise ValueError("window_timeout_seconds and query_deadline_seconds must be above 0")
        if self.backoff_seconds < 0 or self.retry_temperature < 0:
            raise ValueError("backoff_seconds and retry_temperature must not be below 0")


async def rerank_query(
    request: RerankRequest,
    generate: Generate,
    strategy: Strategy,
    prompt_builder: PromptBuilder,
    answer_format: AnswerFormat,
    sampling: SamplingParams,
    policy: RetryPolicy,
    identifiers: Identifiers = "numbers",
    encode: Callable[[str], Sequence[int]] | None = None,
) -> RerankResult:
    """Rerank one query's candidates. Every candidate is in the result exactly once, whatever the LLM said.

    `encode` gives the token ids of a text, as the prompter's; `policy.force_answer` needs it.
    Raises EngineDeadError when the engine is lost, ValueError when the strategy breaks its contract, and
    nothing for an answer that is missing, late or malformed: such a window keeps its order and says so.
    """

    def parse(completion: Completion, num_passages: int) -> Permutation:
        if answer_format == "first_token":
            return order_by_logprobs(completion.choice_logprobs, num_passages)
        return parse_permutation(completion.text, num_passages, answer_format, completion.finish_reason, identifiers)

    def force(prompt: Prompt, params: SamplingParams, response: str, num_passages: int) -> Forced:
        assert encode is not None
        names = identifier_names(num_passages, identifiers)
        return force_ranking(prompt, params, response, names, answer_format, encode)

    force_or_not = force if policy.force_answer and encode is not None else None
    asker = _WindowRunner(request, generate, prompt_builder(request), parse, force_or_not, sampling, policy)
    try:
        order = await strategy.rank(len(request.candidates), asker.ask)
    except BaseExceptionGroup as group:  # of a strategy that asks windows at once
        raise first_error(group) from None
    apply_permutation(request.candidates, order)
    windows = tuple(outcome for outcome in asker.outcomes if outcome is not None)
    status = _query_status(windows)
    if status == "failed":  # no answer ranked anything, but a strategy may have shuffled
        order = list(range(len(request.candidates)))
    return RerankResult(request.query_id, status, tuple(order), windows, _first_error(windows))


class _WindowRunner:
    """Asks the windows of one query and keeps an outcome for each, in the order they were asked."""

    def __init__(
        self,
        request: RerankRequest,
        generate: Generate,
        render: Render,
        parse: Callable[[Completion, int], Permutation],
        force: Callable[[Prompt, SamplingParams, str, int], Forced] | None,
        sampling: SamplingParams,
        policy: RetryPolicy,
    ) -> None:
        self.outcomes: list[WindowOutcome | None] = []
        self._request = request
        self._known = frozenset(range(len(request.candidates)))
        self._generate = generate
        self._render = render
        self._parse = parse
        self._force = force
        self._sampling = sampling
        self._policy = policy
        self._deadline_seconds = time.monotonic() + policy.query_deadline_seconds

    async def ask(self, indices: Sequence[int], start: int) -> list[int]:
        self._check_window(indices)
        if len(indices) == 1:
            return list(indices)  # nothing to rank
        number = len(self.outcomes)
        self.outcomes.append(None)
        outcome = WindowOutcome(start, start + len(indices), "timeout", 0, 0, 0, 0.0, error="query deadline passed")
        order: Sequence[int] = range(len(indices))
        for attempt in range(self._policy.max_attempts):
            if outcome.status == "error":
                await asyncio.sleep(self._backoff_seconds(number, attempt))
            if self._remaining_seconds() <= 0:
                break
            order, outcome = await self._attempt(indices, outcome, number, attempt)
            if outcome.status in ANSWERED:
                break
        if self._force and outcome.status in ("no_answer", "truncated") and self._remaining_seconds() > 0:
            order, outcome = await self._attempt(indices, outcome, number, self._policy.max_attempts)
        self.outcomes[number] = outcome
        return apply_permutation(indices, order)

    async def _attempt(
        self, indices: Sequence[int], before: WindowOutcome, number: int, attempt: int
    ) -> tuple[Sequence[int], WindowOutcome]:
        started = time.monotonic()
        failure = replace(before, attempts=before.attempts + 1, finish_reason=None)
        status: WindowStatus
        try:
            prompt = self._render(indices)
            failure = replace(failure, shortened_to_tokens=prompt.shortened_to_tokens, prompt=prompt.text)
            params, prefix = self._sampling_params(number, attempt), ""
            forced = self._force if attempt == self._policy.max_attempts else None
            if forced:
                params = replace(params, temperature=self._sampling.temperature)
                prompt, params, prefix = forced(prompt, params, before.response or "", len(indices))
            async with asyncio.timeout(min(self._policy.window_timeout_seconds, self._remaining_seconds())):
                completion = await self._generate(prompt, params)
            if forced:
                completion = replace(completion, text=prefix + completion.text, finish_reason=FORCED)
            return self._judge(len(indices), failure, completion, time.monotonic() - started)
        except EngineDeadError:
            raise
        except TimeoutError:
            status, message = "timeout", f"no completion within {time.monotonic() - started:.1f} s"
        except Exception as error:  # a window's failure is recorded, never raised: its whole block would run again
            status, message = "error", f"{type(error).__name__}: {error}"
        seconds = before.latency_seconds + time.monotonic() - started
        return range(len(indices)), replace(failure, status=status, error=message, latency_seconds=seconds)

    def _judge(
        self, num_passages: int, before: WindowOutcome, completion: Completion, seconds: float
    ) -> tuple[Sequence[int], WindowOutcome]:
        permutation = self._parse(completion, num_passages)
        return permutation.order, replace(
            before,
            status=permutation.status,
            prompt_tokens=before.prompt_tokens + completion.prompt_tokens,
            output_tokens=before.output_tokens + completion.output_tokens,
            latency_seconds=before.latency_seconds + seconds,
            finish_reason=completion.finish_reason,
            reasoning=permutation.reasoning,
            error=None,
            response=completion.text,
        )

    def _sampling_params(self, number: int, attempt: int) -> SamplingParams:
        seed = zlib.crc32(f"{self._sampling.seed}/{self._request.query_id}/{number}/{attempt}".encode())
        temperature = self._sampling.temperature
        if attempt:
            temperature = max(temperature, self._policy.retry_temperature)
        return replace(self._sampling, seed=seed & 0x7FFFFFFF, temperature=temperature)

    def _backoff_seconds(self, number: int, attempt: int) -> float:
        jitter = random.Random(f"{self._request.query_id}/{number}/{attempt}").uniform(0.5, 1.5)
        backoff_seconds = self._policy.backoff_seconds * float(2 ** (attempt - 1)) * jitter
        return min(backoff_seconds, max(self._remaining_seconds(), 0.0))

    def _remaining_seconds(self) -> float:
        return self._deadline_seconds - time.monotonic()

    def _check_window(self, indices: Sequence[int]) -> None:
        if not indices or len(set(indices)) < len(indices) or not set(indices) <= self._known:
            raise ValueError(
                f"a window must show between 1 and all of {len(self._known)} candidates once each, "
                f"the strategy asked {list(indices)[:30]}"
            )


def _query_status(windows: Sequence[WindowOutcome]) -> QueryStatus:
    answered = sum(window.status in ANSWERED for window in windows)
    if answered == len(windows):
        return "complete"
    return "degraded" if answered else "failed"


def _first_error(windows: Sequence[WindowOutcome]) -> str | None:
    """What to read first about a query that is not complete."""
    for window in windows:
        if window.status not in ANSWERED:
            return f"window [{window.start}, {window.end}): {window.error or window.status}"
    return None
