"""Turn the ranks that an answer names into a permutation of its window, and apply it."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def complete_permutation(ranks: Sequence[int], num_passages: int) -> tuple[tuple[int, ...] | None, bool]:
    """Make a permutation of the positions 0 to `num_passages` - 1 from 1-based `ranks`.

    Only the first occurrence of a rank is used. Ranks out of range are dropped. Passages that are not named follow in
    input order. This is `receive_permutation` of ReasonRank's rerank/rankllm.py.

    Returns:
        The order, or None if no rank is in range; and whether `ranks` is already a permutation.
    """
    named = [rank - 1 for rank in ranks if 1 <= rank <= num_passages]
    if not named:
        return None, False
    order = tuple(dict.fromkeys([*named, *range(num_passages)]))
    return order, len(ranks) == num_passages == len(set(named))


def apply_permutation(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """`items` in the order of the positions in `order`.

    Raises:
        ValueError: `order` does not hold every position exactly once.
    """
    if sorted(order) != list(range(len(items))):
        raise ValueError(f"not a permutation of {len(items)} positions: {list(order)[:30]}")
    return [items[position] for position in order]
