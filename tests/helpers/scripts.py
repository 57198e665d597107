"""What the tests of this room share: requests, prompts that name their candidates, and answers made from them."""

from collections.abc import Callable, Sequence

from corpus_reranker.ranking.rerank_query import Render, RetryPolicy, rerank_query
from corpus_reranker.ranking.strategies import Strategy
from corpus_reranker.types import Candidate, Completion, Generate, Prompt, RerankRequest, RerankResult, SamplingParams

SAMPLING = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=3172, seed=7)
IMPATIENT = RetryPolicy(backoff_seconds=0.0)


def request_of(num_candidates: int) -> RerankRequest:
    candidates = (Candidate(f"d{i}", f"passage {i}", float(-i)) for i in range(num_candidates))
    return RerankRequest("q1", "a query", tuple(candidates))


def prompt_builder(request: RerankRequest) -> Render:
    """Prompts whose text is the indices they show."""
    return lambda indices: Prompt(" ".join(map(str, indices)), tuple(indices))


def shown(prompt: Prompt) -> list[int]:
    return [int(index) for index in prompt.text.split()]


def answer(order: Sequence[int]) -> str:
    """As ReasonRank writes it, from 0-based positions of the window."""
    return f"<think>[3] before [1]?</think>\n<answer>{' > '.join(f'[{i + 1}]' for i in order)}</answer>"


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, prompt_tokens=100, output_tokens=10)


def oracle(relevance: Callable[[int], float], named: Callable[[int], int] = lambda size: size) -> Generate:
    """Answers each window by falling relevance, naming only the best `named(window size)`."""

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        indices = shown(prompt)
        best_first = sorted(range(len(indices)), key=lambda position: -relevance(indices[position]))
        return completion(answer(best_first[: named(len(indices))]))

    return generate


async def rerank(
    num_candidates: int, generate: Generate, strategy: Strategy, policy: RetryPolicy = IMPATIENT
) -> RerankResult:
    return await rerank_query(
        request_of(num_candidates), generate, strategy, prompt_builder, "reasoning", SAMPLING, policy
    )
