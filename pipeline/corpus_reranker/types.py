"""Frozen values that cross packages. Standard library only: every other package may import this module."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

WindowStatus: TypeAlias = Literal["complete", "repaired", "no_answer", "truncated", "timeout", "error"]
"""complete: the answer has what its format asks for: every passage once, or one label. repaired: passages are
missing or repeated, or identifiers are out of range; passages that the answer does not name follow in input order.
no_answer: the answer names no passage. truncated: generation ended before the answer. timeout, error: no completion.
With the last four, the window keeps its input order."""

AnswerFlag: TypeAlias = Literal["input_order", "one_name", "zero_based", "reasonrank_differs"]
"""Properties of an answer that are counted in addition to its status. input_order: the answer repeats the input order.
one_name: the answer names only one of several passages, although its format asks for all. zero_based: the answer counts
the passages from 0. reasonrank_differs: ReasonRank's own code reads another order from the answer."""

QueryStatus: TypeAlias = Literal["complete", "degraded", "failed"]
"""complete: every window is complete or repaired. degraded: at least one window kept its input order. failed: no window
has an answer, or the row cannot be reranked; the input order stays. With a pre-ranker, the input order is the order of
its scores, and a query whose pre-ranker failed is never complete."""

ANSWERED: frozenset[WindowStatus] = frozenset({"complete", "repaired"})
"""Statuses of windows whose completion changed (or confirmed) the order."""


def count_unanswered(windows_by_status: Mapping[str, int]) -> int:
    """Number of windows that kept their input order because no usable answer came."""
    return sum(count for status, count in windows_by_status.items() if status not in ANSWERED)


CalibrationMethod: TypeAlias = Literal["isotonic", "platt"]
"""isotonic: any monotone map from a score to a probability. platt: a logistic curve."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One passage that the first stage retrieved for a query, with its first-stage score."""

    doc_id: str
    text: str
    score: float
    title: str | None = None

    @property
    def has_text(self) -> bool:
        """Whether the title or the text has more than white space."""
        return bool(self.text.strip() or (self.title or "").strip())


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """One query and its candidates in first-stage order.

    Attributes:
        columns: Values of the input's other columns that the prompt template shows, as text.
    """

    query_id: str
    query: str
    candidates: tuple[Candidate, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShownInput:
    """The parts of an input row that prompts show in addition to query, titles and texts.

    Attributes:
        columns: Names of columns, in alphabetical order.
        scores: Whether prompts show first-stage scores.
    """

    columns: tuple[str, ...] = ()
    scores: bool = False


NOTHING_SHOWN = ShownInput()
"""For prompts that show only query, titles and texts."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt as a chat API takes it, before any chat template.

    Attributes:
        messages: Pairs of role and content.
        template_kwargs: Names and values of the chat template's variables, such as enable_thinking.
    """

    messages: tuple[tuple[str, str], ...]
    template_kwargs: tuple[tuple[str, bool | int | str], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one window.

    Attributes:
        text: The whole prompt, chat template included.
        token_ids: `text` encoded, so that the engine does not tokenize it again.
        shortened_to_tokens: The length to which passages were cut so that the prompt fits the context. None: not cut.
        choices: Token ids whose log-probabilities as the first token give the answer: those of the passages'
            identifiers in the order shown, or those of the prompt template's `choices`. Empty for models that write an
            answer.
        chat: The same prompt as messages, for a chat API. None if `text` also contains the beginning of the response.
    """

    text: str
    token_ids: tuple[int, ...]
    shortened_to_tokens: int | None = None
    choices: tuple[int, ...] = ()
    chat: Chat | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the engine samples one completion.

    Attributes:
        top_k: 0 samples from all tokens.
        max_tokens: Reasoning and answer together.
        regex: The completion's text must match it (structured output). None: any text.
        max_reasoning_tokens: The engine closes the reasoning after this many tokens. None: it does not. Only for
            engines with the capability `reasoning_budget`.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()
    regex: str | None = None
    max_reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One response of the LLM.

    Attributes:
        finish_reason: "stop" at an end token or stop string, "length" at max_tokens, "capped" if the reasoning
            was closed at its token budget and the answer then ended as for "stop", "forced" if structured output
            allowed only a ranking.
        choice_logprobs: Log-probabilities of the prompt's `choices` as the first token. Empty if the prompt has none.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    choice_logprobs: tuple[float, ...] = ()


Generate: TypeAlias = Callable[[Prompt, SamplingParams], Awaitable[Completion]]
"""The interface between ranking and an engine. Raises RequestError (the window can be retried) or EngineDeadError."""

Score: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Sequence[float]]]
"""A pre-ranker: maps a query and its passages to one score per passage, higher is better. Raises as Generate does."""

Encode: TypeAlias = Callable[[str], Sequence[int]]
"""Maps a text to its token ids, including special tokens."""


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """The result of one window `[start, end)`.

    Attributes:
        attempts: Number of requests. Tokens and latency are sums over all of them.
        finish_reason: Finish reason of the last completion; None if the last attempt had no completion.
        shortened_to_tokens: As in `Prompt`.
        reasoning: The text before the answer.
        prompt: The text of the last prompt.
        response: The text of the last completion.
        named: Number of passages that the answer names. None: no completion, or the parser does not say.
        stability: The stability that the ranking would have if this window were the last. None: the strategy does not
            measure it, or no window up to this one has an answer.
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
    named: int | None = None
    flags: tuple[AnswerFlag, ...] = ()
    stability: float | None = None


@dataclass(frozen=True, slots=True)
class Belief:
    """A normal distribution of a candidate's relevance, on the strategy's own scale."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a strategy returns: the order of the candidates, and its scores and beliefs.

    `llm_scores`, `beliefs` and `agreement` have one value for each candidate, by index: None for a candidate without
    one. The whole tuple is None if the strategy does not give such values.

    Attributes:
        order: Indices of the candidates, best first, each exactly once.
        llm_scores: The LLM's own score (a logit, a probability or a stated score), higher is better. Scores of windows
            that are not comparable with each other do not belong here.
        beliefs: The strategy's final belief of each candidate's relevance.
        agreement: The fraction from 0 to 1 of the evidence about a candidate that agrees with `order`.
        stability: How reproducible the order is, higher is better. The strategy defines the measure.
        window_stability: For each window, in the order of the requests: the stability that the ranking would have if
            this window were the last. None if the strategy does not measure it.
    """

    order: Sequence[int]
    llm_scores: Sequence[float | None] | None = None
    beliefs: Sequence[Belief | None] | None = None
    agreement: Sequence[float | None] | None = None
    stability: float | None = None
    window_stability: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("llm_scores", "beliefs", "agreement"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.order):
                raise ValueError(f"{name} has {len(values)} values for {len(self.order)} candidates")


@dataclass(frozen=True, slots=True)
class RerankResult:
    """The new order of a query's candidates.

    `llm_scores`, `beliefs`, `agreement` and `stability` are those of the strategy's `Ranking`, in the order of
    `request.candidates`. All of them are None if the query failed.

    Attributes:
        order: `order[r]` is the index in `request.candidates` of the candidate at rank r + 1.
        pre_ranker_scores: One score per candidate, in the order of `request.candidates`, NaN for a candidate without
            text. None if there is no pre-ranker, or if it failed.
    """

    query_id: str
    status: QueryStatus
    order: tuple[int, ...]
    windows: tuple[WindowOutcome, ...]
    error: str | None = None
    pre_ranker_scores: tuple[float, ...] | None = None
    llm_scores: Sequence[float | None] | None = None
    beliefs: Sequence[Belief | None] | None = None
    agreement: Sequence[float | None] | None = None
    stability: float | None = None
