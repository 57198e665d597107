"""The frozen values that cross from one room of the pipeline into another.

Standard library only: every other package may import this one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

WindowStatus: TypeAlias = Literal["complete", "repaired", "no_answer", "truncated", "timeout", "error"]
"""complete: every passage named once. repaired: some named twice, not at all or out of range, the rest kept in
input order behind. no_answer: an answer without an identifier. truncated: the reasoning never reached an
answer. timeout, error: no completion. The last four leave the window in its input order."""

QueryStatus: TypeAlias = Literal["complete", "degraded", "failed"]
"""complete: every window complete or repaired. degraded: at least one window kept its input order.
failed: no window was answered, or the row could not be read; input order kept.
With a pre-ranker "input order" is the order by its scores, and a query whose pre-ranker failed is degraded at best."""

ANSWERED: frozenset[WindowStatus] = frozenset({"complete", "repaired"})
"""Statuses of windows whose completion changed (or confirmed) the order."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One passage proposed for a query by the first stage. `score` is the first stage's."""

    doc_id: str
    text: str
    score: float
    title: str | None = None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """One query and its candidates in first-stage order."""

    query_id: str
    query: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one window asks the engine. `token_ids` are the prompt's, so that it is tokenised once.

    `shortened_to_tokens` is the length the passages were cut to so that the window fits the context, None if
    they kept the configured length. `choices` are the token ids of the passages' identifiers, in the order shown, where
    the model ranks by how likely each is to come first; empty where it writes the ranking out.
    """

    text: str
    token_ids: tuple[int, ...]
    shortened_to_tokens: int | None = None
    choices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the engine samples one completion. `top_k` 0 means all tokens. `max_tokens` is reasoning plus answer.

    `regex`, where it is set, is what the completion's text has to match: the engine lets no other token through.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One LLM answer. `finish_reason` is "stop" at an end token or stop string, "length" at max_tokens.

    `choice_logprobs` are the log-probabilities, as the first token, of the prompt's `choices`; empty if it has none.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    choice_logprobs: tuple[float, ...] = ()


Generate: TypeAlias = Callable[[Prompt, SamplingParams], Awaitable[Completion]]
"""The one thing ranking knows of an engine. Raises RequestError (ask again) or EngineDeadError (replica lost)."""


Score: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Sequence[float]]]
"""A pre-ranker's scores of a query's passages, higher is better. Raises as Generate does."""


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """What became of one window `[start, end)`. Tokens and latency are summed over its attempts.

    `reasoning` is the text before the answer, `response` the last raw completion; both None if none came.
    """

    start: int
    end: int
    status: WindowStatus
    attempts: int
    prompt_tokens: int
    output_tokens: int
    latency_seconds: float
    finish_reason: str | None = None
    shortened_to_tokens: int | None = None
    reasoning: str | None = None
    error: str | None = None
    prompt: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True)
class RerankResult:
    """The new order of a query: `order[r]` is the index in `request.candidates` of the candidate at rank r+1.

    `pre_ranker_scores[i]` is the pre-ranker's score of `request.candidates[i]`; None if there was none, or it failed.
    """

    query_id: str
    status: QueryStatus
    order: tuple[int, ...]
    windows: tuple[WindowOutcome, ...]
    error: str | None = None
    pre_ranker_scores: tuple[float, ...] | None = None
