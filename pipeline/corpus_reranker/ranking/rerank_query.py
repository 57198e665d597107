"""The core: reranks one query, without Ray, vLLM or Parquet."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from corpus_reranker.answers.base import AnswerParser
from corpus_reranker.answers.permutation import apply_permutation
from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.errors import first_error
from corpus_reranker.ranking.blank_passages import rank_texts
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.base import Strategy, as_ranking, needs_scores
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.window_runner import GenerateAny, RenderWindow, WindowRunner
from corpus_reranker.types import (
    ANSWERED,
    Encode,
    QueryStatus,
    Ranking,
    RerankRequest,
    RerankResult,
    SamplingParams,
    WindowOutcome,
)

BuildPrompts: TypeAlias = Callable[[RerankRequest], RenderWindow]
"""Maps a request to the function that renders its windows, such as a `prompts.builder.PromptBuilder`."""

REASONRANK_SAMPLING = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=3172, seed=0)
"""ReasonRank 7B and 32B (run_rank_llm.py): greedy, 3,072 tokens of reasoning and 100 of answer."""


async def rerank_query(
    request: RerankRequest,
    generate: GenerateAny,
    *,
    strategy: Strategy | None = None,
    prompt_builder: BuildPrompts | None = None,
    parser: AnswerParser | None = None,
    sampling: SamplingParams | None = None,
    policy: RetryPolicy | None = None,
    encode: Encode | None = None,
) -> RerankResult:
    """Rerank one query's candidates with an LLM.

    The result has every candidate exactly once. A window whose answer is missing, late or malformed keeps its order,
    and its status gives the reason. Candidates without text are not shown to the LLM and come last.

    Args:
        request: The query and its candidates in first-stage order.
        generate: The LLM. A function that returns a `str` works too; its completion counts no output tokens.
        strategy: Default: sliding windows, window 20, stride 10, depth 100.
        prompt_builder: Default: the template `reasonrank` for a context of 32,768 tokens, as a ChatML chat. It counts
            tokens without a model's tokenizer, so `generate` should read `prompt.text`, not `prompt.token_ids`.
        parser: Default: the answer format `reasoning`, which the template `reasonrank` asks for.
        sampling: Default: REASONRANK_SAMPLING with the parser's stop strings and max_tokens.
        policy: Retries and deadlines. Default: `RetryPolicy()`.
        encode: Maps a text to the engine's token ids. `policy.force_answer` needs it.

    Raises:
        EngineDeadError: `generate` raised it.
        ValueError: The strategy violates its contract or needs scores that `parser` does not give, or
            `policy.force_answer` is set without `encode` or a suitable parser.
    """
    parser, strategy = parser or ReasoningParser(), strategy or SlidingWindow()
    if needs_scores(strategy) and not parser.gives_scores:
        raise ValueError(f"{type(strategy).__name__} needs scores, and {type(parser).__name__} gives none")
    prompt_builder = prompt_builder or _reasonrank_prompts()

    async def rank(request: RerankRequest) -> RerankResult:
        runner = WindowRunner(
            request,
            generate,
            prompt_builder(request),
            parser,
            sampling or _default_sampling(parser),
            policy or RetryPolicy(),
            encode,
        )
        return await _rank_windows(request, strategy, runner)

    return await rank_texts(request, rank)


async def _rank_windows(request: RerankRequest, strategy: Strategy, runner: WindowRunner) -> RerankResult:
    window = runner.score_window if needs_scores(strategy) else runner.rank_window
    try:
        ranked = await strategy.rank(len(request.candidates), window)
    except BaseExceptionGroup as group:  # from windows that ran concurrently
        raise first_error(group) from None
    ranking = as_ranking(ranked)
    apply_permutation(request.candidates, ranking.order)
    windows = _with_stability(runner.outcomes, ranking.window_stability)
    status = _query_status(windows)
    if status == "failed":  # no window has an answer, but the strategy may have shuffled
        ranking = Ranking(range(len(request.candidates)))
    return RerankResult(
        request.query_id,
        status,
        tuple(ranking.order),
        windows,
        _first_window_error(windows),
        llm_scores=runner.only_scores() if ranking.llm_scores is None else ranking.llm_scores,
        beliefs=ranking.beliefs,
        agreement=ranking.agreement,
        stability=ranking.stability,
    )


def _with_stability(windows: Sequence[WindowOutcome], stabilities: Sequence[float] | None) -> tuple[WindowOutcome, ...]:
    """Add the stability to each window from the first answered one on. Up to there, the query counts as failed."""
    if stabilities is None:
        return tuple(windows)
    if len(stabilities) != len(windows):
        raise ValueError(f"window_stability has {len(stabilities)} values for {len(windows)} windows")
    first = next((number for number, window in enumerate(windows) if window.status in ANSWERED), len(windows))
    answered = zip(windows[first:], stabilities[first:], strict=True)
    return (*windows[:first], *(replace(window, stability=value) for window, value in answered))


def _default_sampling(parser: AnswerParser) -> SamplingParams:
    max_tokens = parser.max_tokens or REASONRANK_SAMPLING.max_tokens
    return replace(REASONRANK_SAMPLING, stop=parser.stop, max_tokens=max_tokens)


def _reasonrank_prompts() -> BuildPrompts:
    from corpus_reranker.prompts.default import (
        reasonrank_prompts,  # needs pydantic, PyYAML and ftfy; this module does not
    )

    return reasonrank_prompts()


def _query_status(windows: Sequence[WindowOutcome]) -> QueryStatus:
    answered = sum(window.status in ANSWERED for window in windows)
    if answered == len(windows):
        return "complete"
    return "degraded" if answered else "failed"


def _first_window_error(windows: Sequence[WindowOutcome]) -> str | None:
    """The first window without an answer, and the reason."""
    for window in windows:
        if window.status not in ANSWERED:
            return f"window [{window.start}, {window.end}): {window.error or window.status}"
    return None
