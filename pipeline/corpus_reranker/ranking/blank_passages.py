"""Ranks candidates without text last, because an LLM cannot judge them."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

from corpus_reranker.ranking.subset import expand_result
from corpus_reranker.types import RerankRequest, RerankResult


async def rank_texts(request: RerankRequest, rank: Callable[[RerankRequest], Awaitable[RerankResult]]) -> RerankResult:
    """Rank the candidates that have text with `rank`. The others follow in first-stage order.

    A query without any text is `failed`. If `rank` fails, all candidates keep their first-stage order.
    """
    indices = range(len(request.candidates))
    with_text = [index for index in indices if request.candidates[index].has_text]
    if len(with_text) == len(indices):
        return await rank(request)
    if not with_text:
        return RerankResult(request.query_id, "failed", tuple(indices), (), "no candidate has text")
    result = await rank(replace(request, candidates=tuple(request.candidates[index] for index in with_text)))
    blank = [index for index in indices if not request.candidates[index].has_text]
    scores = None
    if result.pre_ranker_scores is not None:
        score_of = dict(zip(with_text, result.pre_ranker_scores, strict=True))
        scores = tuple(score_of.get(index, math.nan) for index in indices)
    expanded = replace(expand_result(result, with_text, blank), pre_ranker_scores=scores)
    unranked = result.status == "failed" and scores is None
    return replace(expanded, order=tuple(indices)) if unranked else expanded
