"""A cheap pass over all candidates decides which of them, and in what order, the strategy gets to see."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from corpus_reranker.errors import EngineDeadError
from corpus_reranker.types import Candidate, RerankRequest, RerankResult, Score


async def cascade(
    request: RerankRequest,
    score: Score,
    keep: int,
    timeout_seconds: float,
    rank: Callable[[RerankRequest], Awaitable[RerankResult]],
) -> RerankResult:
    """Order the candidates by `score`, have the best `keep` ranked by `rank`, and leave the others behind them.

    Those cut off stay in the order of their scores; equal scores keep the first stage's order. Where the pre-ranker
    fails or takes longer than `timeout_seconds`, the first stage's best `keep` are ranked instead, the query is
    degraded at best, and its error says why. Raises what `rank` raises, and EngineDeadError of the pre-ranker.
    """
    scores, failure = await _scores(request, score, timeout_seconds)
    order = list(range(len(request.candidates))) if scores is None else order_by_score(scores)
    kept = replace(request, candidates=tuple(request.candidates[index] for index in order[:keep]))
    result = await rank(kept)
    return replace(
        result,
        order=(*(order[position] for position in result.order), *order[keep:]),
        status="degraded" if failure and result.status == "complete" else result.status,
        error="; ".join(filter(None, (failure, result.error))) or None,
        pre_ranker_scores=scores,
    )


def order_by_score(scores: Sequence[float]) -> list[int]:
    """Indices by falling score; equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def passage_text(candidate: Candidate) -> str:
    """Title and text with a blank between, as retrievers are trained and BEIR evaluates them (arXiv 2104.08663)."""
    return f"{candidate.title} {candidate.text}".strip() if candidate.title else candidate.text


async def _scores(
    request: RerankRequest, score: Score, timeout_seconds: float
) -> tuple[tuple[float, ...] | None, str | None]:
    """The scores, or why there are none."""
    try:
        async with asyncio.timeout(timeout_seconds):
            scores = tuple(await score(request.query, [passage_text(candidate) for candidate in request.candidates]))
    except EngineDeadError:
        raise
    except TimeoutError:
        return None, f"pre-ranker: no scores within {timeout_seconds:g} s"
    except Exception as error:  # as a window's: recorded, never raised, or the whole block would run again
        return None, f"pre-ranker: {type(error).__name__}: {error}"
    if len(scores) != len(request.candidates) or not all(map(math.isfinite, scores)):
        return None, f"pre-ranker: {len(scores)} scores for {len(request.candidates)} candidates, or one is no number"
    return scores, None
