"""A cascade: a pre-ranker scores all candidates, and the LLM ranks the best of them."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from corpus_reranker.errors import EngineDeadError
from corpus_reranker.ranking.blank_passages import rank_texts
from corpus_reranker.ranking.subset import expand_result
from corpus_reranker.types import Candidate, RerankRequest, RerankResult, Score


async def cascade(
    request: RerankRequest,
    score: Score,
    keep: int,
    timeout_seconds: float,
    rank: Callable[[RerankRequest], Awaitable[RerankResult]],
) -> RerankResult:
    """Order the candidates by `score`, then rank the best `keep` of them with `rank`.

    The other candidates follow in the order of their scores; equal scores keep the first-stage order. Candidates
    without text are not scored, and come last. If the pre-ranker fails, `rank` gets the best `keep` of the first stage,
    the query is never `complete`, and its error has the reason.

    Args:
        request: The query with all its candidates.
        score: The pre-ranker.
        keep: The number of candidates for `rank`.
        timeout_seconds: The pre-ranker fails after this time.
        rank: Reranks a request, such as `rerank_query` with its settings bound.

    Raises:
        EngineDeadError: The engine of the pre-ranker or of the LLM died.
    """

    async def score_and_rank(request: RerankRequest) -> RerankResult:
        scores, failure = await _scores(request, score, timeout_seconds)
        order = list(range(len(request.candidates))) if scores is None else order_by_score(scores)
        kept = replace(request, candidates=tuple(request.candidates[index] for index in order[:keep]))
        result = await rank(kept)
        return replace(
            expand_result(result, order[:keep], order[keep:]),
            status="degraded" if failure and result.status == "complete" else result.status,
            error="; ".join(filter(None, (failure, result.error))) or None,
            pre_ranker_scores=scores,
        )

    return await rank_texts(request, score_and_rank)


def order_by_score(scores: Sequence[float]) -> list[int]:
    """Indices by descending score; equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def passage_text(candidate: Candidate) -> str:
    """Title and text separated by a space, as in BEIR (arXiv 2104.08663) and in the training of most retrievers."""
    return f"{candidate.title} {candidate.text}".strip() if candidate.title else candidate.text


async def _scores(
    request: RerankRequest, score: Score, timeout_seconds: float
) -> tuple[tuple[float, ...] | None, str | None]:
    """Returns (scores, None), or (None, reason) if the pre-ranker failed."""
    try:
        async with asyncio.timeout(timeout_seconds):
            scores = tuple(await score(request.query, [passage_text(candidate) for candidate in request.candidates]))
    except EngineDeadError:
        raise
    except TimeoutError:
        return None, f"pre-ranker: no scores within {timeout_seconds:g} s"
    except Exception as error:  # recorded, never raised: an error would rerun the whole block of queries
        return None, f"pre-ranker: {type(error).__name__}: {error}"
    if len(scores) != len(request.candidates) or not all(map(math.isfinite, scores)):
        return None, f"pre-ranker: {len(scores)} scores for {len(request.candidates)} candidates, or not all finite"
    return scores, None
