"""Expands the result for a subset of a query's candidates to a result for all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from corpus_reranker.types import RerankResult

_Value = TypeVar("_Value")


def expand_result(result: RerankResult, indices: Sequence[int], others: Sequence[int]) -> RerankResult:
    """Append the candidates that were not reranked to the result for the others.

    Args:
        result: The result for the reranked candidates.
        indices: Index in the request of each reranked candidate.
        others: Indices in the request of all other candidates. They follow in this order, and have no values.
    """
    size = len(indices) + len(others)
    return replace(
        result,
        order=(*(indices[position] for position in result.order), *others),
        llm_scores=_expand(result.llm_scores, indices, size),
        beliefs=_expand(result.beliefs, indices, size),
        agreement=_expand(result.agreement, indices, size),
    )


def _expand(values: Sequence[_Value | None] | None, indices: Sequence[int], size: int) -> list[_Value | None] | None:
    if values is None:
        return None
    value_of = dict(zip(indices, values, strict=True))
    return [value_of.get(index) for index in range(size)]
