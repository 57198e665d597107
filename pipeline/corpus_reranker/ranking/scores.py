"""The ranking of candidates that an LLM has scored."""

import math
from collections.abc import Sequence

from corpus_reranker.types import Ranking


def rank_by_score(scores: Sequence[float | None], num_candidates: int) -> Ranking:
    """Rank the first `len(scores)` candidates by descending score, equal scores in first-stage order.

    A candidate without a score follows those with one. The candidates beyond the scores come last.
    """
    order = sorted(range(len(scores)), key=lambda index: math.inf if (score := scores[index]) is None else -score)
    rest = range(len(scores), num_candidates)
    return Ranking([*order, *rest], llm_scores=[*scores, *(None for _ in rest)])
