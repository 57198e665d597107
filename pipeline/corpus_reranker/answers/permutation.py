"""Turn the ranks that an answer names into a permutation of its window, and apply it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Permutation:
    """The order of a window that an answer gives.

    Attributes:
        order: Positions in the window, 0-based, best first, each exactly once.
        named: Number of passages that the answer names. 0: `order` is the input order.
        exact: Whether the answer names every passage exactly once, and nothing else.
    """

    order: tuple[int, ...]
    named: int
    exact: bool


def complete_permutation(ranks: Sequence[int], num_passages: int) -> Permutation:
    """Make a permutation of the positions 0 to `num_passages` - 1 from 1-based `ranks`.

    Only the first occurrence of a rank is used. Ranks out of range are dropped. Passages that are not named follow in
    input order. This is `receive_permutation` of ReasonRank's rerank/rankllm.py.
    """
    named = dict.fromkeys(rank - 1 for rank in ranks if 1 <= rank <= num_passages)
    order = tuple(dict.fromkeys([*named, *range(num_passages)]))
    return Permutation(order, len(named), len(ranks) == num_passages == len(named))


def count_from_one(ranks: Sequence[int], num_passages: int) -> Sequence[int]:
    """Add one to each rank if the ranks count from 0: they name 0 to `num_passages` - 1, and nothing else.

    Returns:
        The ranks, counted from 1. Empty if they contain 0 but not `num_passages`, and it is not clear from where they
        count.
    """
    if 0 not in ranks or num_passages in ranks:
        return ranks
    return [rank + 1 for rank in ranks] if set(ranks) == set(range(num_passages)) else ()


def apply_permutation(items: Sequence[T], order: Sequence[int]) -> list[T]:
    """`items` in the order of the positions in `order`.

    Raises:
        ValueError: `order` does not hold every position exactly once.
    """
    if sorted(order) != list(range(len(items))):
        raise ValueError(f"not a permutation of {len(items)} positions: {list(order)[:30]}")
    return [items[position] for position in order]
