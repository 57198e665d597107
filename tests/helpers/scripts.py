"""Requests, prompts that show candidate indices, and scripted LLMs for tests of the ranking packages."""

from collections.abc import Callable, Sequence

from corpus_reranker.answers.base import Judgment
from corpus_reranker.answers.identifiers import IDENTIFIERS
from corpus_reranker.answers.registry import create_answer_parser
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.base import Strategy
from corpus_reranker.ranking.window_runner import RenderWindow
from corpus_reranker.types import (
    Candidate,
    Completion,
    Encode,
    Generate,
    Prompt,
    RerankRequest,
    RerankResult,
    SamplingParams,
)

SAMPLING = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=3172, seed=7)
NO_BACKOFF = RetryPolicy(backoff_seconds=0.0)


def request_of(num_candidates: int) -> RerankRequest:
    candidates = (Candidate(f"d{i}", f"passage {i}", float(-i)) for i in range(num_candidates))
    return RerankRequest("q1", "a query", tuple(candidates))


def prompt_builder(request: RerankRequest) -> RenderWindow:
    """Prompts whose text and token ids are the indices they show."""
    return lambda indices: Prompt(" ".join(map(str, indices)), tuple(indices))


def shown_indices(prompt: Prompt) -> list[int]:
    """The candidate indices that a prompt of `prompt_builder` shows."""
    return [int(index) for index in prompt.text.split()]


def answer(order: Sequence[int]) -> str:
    """ReasonRank's answer for an order of 0-based window positions."""
    return f"<think>[3] before [1]?</think>\n<answer>{' > '.join(f'[{i + 1}]' for i in order)}</answer>"


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, prompt_tokens=100, output_tokens=10)


def oracle(relevance: Callable[[int], float], num_ranked: Callable[[int], int] = lambda size: size) -> Generate:
    """An LLM that ranks each window by `relevance`, and lists only the best `num_ranked(window size)` passages."""

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        indices = shown_indices(prompt)
        best_first = sorted(range(len(indices)), key=lambda position: -relevance(indices[position]))
        return completion(answer(best_first[: num_ranked(len(indices))]))

    return generate


async def rerank(
    num_candidates: int,
    generate: Generate,
    strategy: Strategy,
    policy: RetryPolicy = NO_BACKOFF,
    *,
    answer_format: str = "reasoning",
    sampling: SamplingParams = SAMPLING,
    encode: Encode | None = None,
) -> RerankResult:
    """`rerank_query` over `num_candidates` candidates with prompts of indices."""
    return await rerank_query(
        request_of(num_candidates),
        generate,
        strategy=strategy,
        prompt_builder=prompt_builder,
        parser=create_answer_parser(answer_format),
        sampling=sampling,
        policy=policy,
        encode=encode,
    )


def parse(
    response: str, num_passages: int, answer_format: str, finish_reason: str = "stop", identifiers: str = "numbers"
) -> Judgment:
    """Parse a response with the parser of `answer_format`."""
    parser = create_answer_parser(answer_format, IDENTIFIERS[identifiers])
    return parser.parse(completion(response, finish_reason), num_passages)
