"""The result of reranking some candidates of a query, as a result of all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from corpus_reranker.types import RerankResult

_Value = TypeVar("_Value")


def expand_result(result: RerankResult, indices: Sequence[int], others: Sequence[int]) -> RerankResult:
    """The result of the candidates at `indices`, followed by the candidates at `others`, which have no values."""
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
