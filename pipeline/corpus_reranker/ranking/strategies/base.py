"""The strategy protocol. A new strategy is one file with a class, and one line in registry.py."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

RankWindow: TypeAlias = Callable[[Sequence[int], int], Coroutine[Any, Any, list[int]]]
"""`await rank_window(indices, start)` shows the candidates at `indices` to the LLM, in this order, and returns the same
indices, best first. It never raises for a bad answer: a window without a usable one comes back in the order it was
given. A window of one index comes back without a request.

`start` is the 0-based position of the best placed of them in the strategy's current order. The output reports the
window as `[start, start + len(indices))`. If the candidates of a window are not contiguous in that order, the report
gives the window's top position and its number of passages, not which passages it shows."""

_MIN_SHUFFLED = 5
"""Smallest window that is shuffled: five passages have 120 orders."""


class Strategy(Protocol):
    """A frozen dataclass whose fields are its settings and whose `__post_init__` raises ValueError on bad ones.

    The same answers must lead to the same windows: no clock, no unseeded randomness, and an order of requests that does
    not depend on which answer arrives first (`rank_windows` guarantees that).
    """

    @property
    def max_window(self) -> int:
        """The largest number of passages in one window."""
        ...

    def max_windows(self, num_candidates: int) -> int:
        """The largest number of windows for a query with `num_candidates` candidates."""
        ...

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        """The final order: every index below `num_candidates` exactly once, best first."""
        ...


async def rank_windows(rank_window: RankWindow, windows: Iterable[tuple[Sequence[int], int]]) -> list[list[int]]:
    """Rank independent windows `(indices, start)` concurrently.

    Returns:
        The order of each window, in the order of `windows`.

    Raises:
        BaseExceptionGroup: One window raised; the others are cancelled.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rank_window(indices, start)) for indices, start in windows]
    return [task.result() for task in tasks]


async def rank_windows_shuffled(
    rank_window: RankWindow, windows: Sequence[tuple[Sequence[int], int]], seed: str
) -> list[list[int]]:
    """`rank_windows` with each window shuffled by `seed`, so that position bias favors no passage.

    A window that comes back as it was shown had no usable answer (or, at most once in 120 times, an answer that
    confirms the shuffled order); it is returned in its own order. Windows of fewer than five passages are not shuffled,
    because coming back unchanged is likely for them.
    """
    rng = random.Random(seed)
    shown = [
        rng.sample(indices, len(indices)) if len(indices) >= _MIN_SHUFFLED else list(indices) for indices, _ in windows
    ]
    orders = await rank_windows(rank_window, [(order, start) for order, (_, start) in zip(shown, windows, strict=True)])
    return [
        list(indices) if order == shown_order else order
        for order, shown_order, (indices, _) in zip(orders, shown, windows, strict=True)
    ]
