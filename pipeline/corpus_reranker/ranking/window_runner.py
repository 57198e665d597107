"""Runs the windows of one query: render, request, parse, and retry if there is no answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from corpus_reranker.answers.base import AnswerParser, Judgment
from corpus_reranker.answers.forcing import FORCED
from corpus_reranker.answers.permutation import apply_permutation
from corpus_reranker.errors import EngineDeadError
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.types import (
    ANSWERED,
    AnswerFlag,
    Completion,
    Encode,
    Prompt,
    RerankRequest,
    SamplingParams,
    WindowOutcome,
    WindowStatus,
)

RenderWindow: TypeAlias = Callable[[Sequence[int]], Prompt]
"""Renders the prompt that shows the candidates at the given indices, in this order."""


GenerateAny: TypeAlias = Callable[[Prompt, SamplingParams], Awaitable[Completion | str]]
"""A `types.Generate`, or a function that returns only the text of the completion."""


class WindowRunner:
    """Runs the windows of one query and records the outcome of each, in the order the strategy requests them."""

    def __init__(
        self,
        request: RerankRequest,
        generate: GenerateAny,
        render: RenderWindow,
        parser: AnswerParser,
        sampling: SamplingParams,
        policy: RetryPolicy,
        encode: Encode | None,
    ) -> None:
        """Start the query's deadline.

        Raises:
            ValueError: `policy` forces answers, and `parser` cannot force one or `encode` is missing.
        """
        if policy.force_answer and (encode is None or not parser.can_force):
            missing = "encode" if encode is None else f"a parser that can force an answer, not {type(parser).__name__}"
            raise ValueError(f"policy.force_answer needs {missing}")
        self._outcomes: list[WindowOutcome | None] = []
        self._only_scores: dict[int, float | None] = {}
        self._query_id = request.query_id
        self._indices = frozenset(range(len(request.candidates)))
        self._generate = generate
        self._render = render
        self._parser = parser
        self._sampling = sampling
        self._policy = policy
        self._encode = encode if policy.force_answer else None
        self._deadline_seconds = time.monotonic() + policy.query_deadline_seconds

    @property
    def outcomes(self) -> tuple[WindowOutcome, ...]:
        """The outcomes of all finished windows."""
        return tuple(outcome for outcome in self._outcomes if outcome is not None)

    async def rank_window(self, indices: Sequence[int], start: int) -> list[int]:
        """Rank the candidates at `indices`: see `strategies.base.RankWindow`.

        Raises:
            EngineDeadError: The engine cannot answer any request.
            ValueError: `indices` is empty, repeats a candidate, or names one that does not exist.
        """
        self._check_window(indices)
        if len(indices) == 1:
            return list(indices)
        judgment = await self._run_window(indices, start)
        return apply_permutation(indices, judgment.order)

    async def score_window(self, indices: Sequence[int], start: int) -> list[float | None]:
        """Score the candidates at `indices`: see `strategies.base.ScoreWindow`. Raises as `rank_window` does."""
        self._check_window(indices)
        judgment = await self._run_window(indices, start)
        if judgment.status not in ANSWERED or judgment.scores is None:
            return [None] * len(indices)
        return list(judgment.scores)

    def only_scores(self) -> list[float | None] | None:
        """One score for each candidate if the query had a single window whose answer gives scores.

        The scores of several windows are not comparable: each is relative to the other passages of its window.
        """
        if len(self._outcomes) != 1 or not self._only_scores:
            return None
        return [self._only_scores.get(index) for index in range(len(self._indices))]

    async def _run_window(self, indices: Sequence[int], start: int) -> Judgment:
        window = len(self._outcomes)
        self._outcomes.append(None)
        judgment, outcome = await self._run_attempts(indices, start, window)
        self._outcomes[window] = outcome
        if outcome.status in ANSWERED and judgment.scores is not None:
            self._only_scores = dict(zip(indices, judgment.scores, strict=True))
        return judgment

    async def _run_attempts(self, indices: Sequence[int], start: int, window: int) -> tuple[Judgment, WindowOutcome]:
        judgment = _unanswered(len(indices), "timeout")
        outcome = WindowOutcome(start, start + len(indices), "timeout", 0, 0, 0, 0.0, error="query deadline passed")
        for attempt in range(self._policy.max_attempts):
            if outcome.status == "error":
                wait_seconds = self._policy.wait_seconds(self._query_id, window, attempt)
                await asyncio.sleep(min(wait_seconds, max(self._remaining_seconds(), 0.0)))
            if self._remaining_seconds() <= 0:
                return judgment, outcome
            judgment, outcome = await self._attempt(indices, outcome, window, attempt)
            if outcome.status in ANSWERED:
                return judgment, outcome
        if self._encode and outcome.status in ("no_answer", "truncated") and self._remaining_seconds() > 0:
            return await self._attempt(indices, outcome, window, self._policy.max_attempts)
        return judgment, outcome

    async def _attempt(
        self, indices: Sequence[int], before: WindowOutcome, window: int, attempt: int
    ) -> tuple[Judgment, WindowOutcome]:
        started = time.monotonic()
        failure = replace(before, attempts=before.attempts + 1, finish_reason=None, named=None, flags=())
        status: WindowStatus
        try:
            prompt = self._render(indices)
            failure = replace(failure, shortened_to_tokens=prompt.shortened_to_tokens, prompt=prompt.text)
            async with asyncio.timeout(min(self._policy.window_timeout_seconds, self._remaining_seconds())):
                completion = await self._request(prompt, before, window, attempt, len(indices))
            return self._judge(len(indices), failure, completion, time.monotonic() - started)
        except EngineDeadError:
            raise
        except TimeoutError:
            status, message = "timeout", f"no completion within {time.monotonic() - started:.1f} s"
        except Exception as error:  # recorded, never raised: an error would rerun the whole block of queries
            status, message = "error", f"{type(error).__name__}: {error}"
        seconds = before.latency_seconds + time.monotonic() - started
        outcome = replace(failure, status=status, error=message, latency_seconds=seconds)
        return _unanswered(len(indices), status), outcome

    async def _request(
        self, prompt: Prompt, before: WindowOutcome, window: int, attempt: int, num_passages: int
    ) -> Completion:
        """Request one completion. The attempt after the policy's last one is a forced answer."""
        params, forced = self._policy.sampling_params(self._sampling, self._query_id, window, attempt), None
        if self._encode is not None and attempt == self._policy.max_attempts:
            params = replace(params, temperature=self._sampling.temperature)
            forced = self._parser.forced_request(prompt, params, before.response or "", num_passages, self._encode)
            prompt, params = forced.prompt, forced.params
        answer = await self._generate(prompt, params)
        completion = Completion(answer, "stop", len(prompt.token_ids), 0) if isinstance(answer, str) else answer
        if forced is None:
            return completion
        return replace(completion, text=forced.prefix + completion.text, finish_reason=FORCED)

    def _judge(
        self, num_passages: int, before: WindowOutcome, completion: Completion, seconds: float
    ) -> tuple[Judgment, WindowOutcome]:
        judgment = self._parser.parse(completion, num_passages)
        return judgment, replace(
            before,
            status=judgment.status,
            prompt_tokens=before.prompt_tokens + completion.prompt_tokens,
            output_tokens=before.output_tokens + completion.output_tokens,
            latency_seconds=before.latency_seconds + seconds,
            finish_reason=completion.finish_reason,
            reasoning=judgment.reasoning,
            error=None,
            response=completion.text,
            named=judgment.named,
            flags=_flags(judgment),
        )

    def _remaining_seconds(self) -> float:
        return self._deadline_seconds - time.monotonic()

    def _check_window(self, indices: Sequence[int]) -> None:
        if not indices or len(set(indices)) < len(indices) or not set(indices) <= self._indices:
            raise ValueError(
                f"a window must show at least one of the query's {len(self._indices)} candidates, and none of them"
                f" twice; the strategy gave the indices {list(indices)[:30]}"
            )


def _unanswered(num_passages: int, status: WindowStatus) -> Judgment:
    return Judgment(tuple(range(num_passages)), status)


def _flags(judgment: Judgment) -> tuple[AnswerFlag, ...]:
    """The parser's flags, and those that follow from the order."""
    flags = list(judgment.flags)
    if judgment.status in ANSWERED and len(judgment.order) > 1 and judgment.order == tuple(range(len(judgment.order))):
        flags.append("input_order")
    if judgment.named == 1 < len(judgment.order) and judgment.status != "complete":
        flags.append("one_name")
    return tuple(flags)
