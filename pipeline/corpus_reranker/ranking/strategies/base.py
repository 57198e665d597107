"""The strategy protocol. A new strategy is one file with a class, and one line in registry.py."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from corpus_reranker.types import Ranking

RankWindow: TypeAlias = Callable[[Sequence[int], int], Coroutine[Any, Any, list[int]]]
"""`await rank_window(indices, start)` shows the candidates at `indices` to the LLM, in this order, and returns the same
indices, best first. It never raises for a bad answer: a window without a usable one comes back in the order it was
given. A window of one index comes back without a request.

`start` is the smallest 0-based position of these candidates in the strategy's current order. The output reports the
window as `[start, start + len(indices))`. If the candidates are not contiguous in that order, this interval has the
right start and length, but does not say which candidates the window shows."""

ScoreWindow: TypeAlias = Callable[[Sequence[int], int], Coroutine[Any, Any, list[float | None]]]
"""`await score_window(indices, start)` shows the candidates at `indices` to the LLM, in this order, and returns one
score for each of them in the same order, higher is better. It never raises for a bad answer: the scores of a window
without a usable one are None, and so is the score of a passage that the answer leaves out. A window of one index is a
request like any other. `start` is that of `RankWindow`."""

_Value = TypeVar("_Value", int, float | None)

_MIN_SHUFFLED = 5
"""Smallest window that is shuffled: five passages have 120 orders."""


class Strategy(Protocol):
    """A frozen dataclass whose fields are its settings and whose `__post_init__` raises ValueError on bad ones.

    The same answers must lead to the same windows: no clock, no unseeded randomness, and an order of requests that does
    not depend on which answer arrives first (`rank_windows` guarantees that).

    A class attribute `needs_scores = True` marks a strategy that ranks by scores: see `needs_scores`. A method
    `with_max_windows` marks a strategy whose rankings can be continued: see `can_continue`.
    """

    @property
    def max_window(self) -> int:
        """The largest number of passages in one window."""
        ...

    def max_windows(self, num_candidates: int) -> int:
        """The largest number of windows for a query with `num_candidates` candidates."""
        ...

    async def rank(self, num_candidates: int, window: Any, /) -> list[int] | Ranking:
        """The final order: every index below `num_candidates` exactly once, best first.

        Args:
            num_candidates: The number of candidates, at least 1.
            window: Requests one window: a `ScoreWindow` if the strategy needs scores, else a `RankWindow`.

        Returns:
            The order alone, or a `Ranking` that also has scores, beliefs or a stability.
        """
        ...


def needs_scores(strategy: Strategy) -> bool:
    """Whether the strategy works with a `ScoreWindow`. It then needs an answer format that gives scores."""
    return bool(getattr(strategy, "needs_scores", False))


def can_continue(strategy: Strategy | type[Strategy]) -> bool:
    """Whether a ranking can be continued with more windows, at least with some settings. A run with a budget does that.

    Such a strategy has a method `with_max_windows(max_windows)`: the same strategy with at most this many windows. Its
    first windows do not depend on the limit, and the ranking has a stability unless it has no use for more windows. The
    method raises ValueError for settings that do not allow this; the message has the reason and the fix.
    """
    return hasattr(strategy, "with_max_windows")


def as_ranking(ranked: Sequence[int] | Ranking) -> Ranking:
    """The result of `Strategy.rank` as a `Ranking`."""
    return ranked if isinstance(ranked, Ranking) else Ranking(ranked)


async def rank_windows(
    window: Callable[[Sequence[int], int], Coroutine[Any, Any, list[_Value]]],
    windows: Iterable[tuple[Sequence[int], int]],
) -> list[list[_Value]]:
    """Rank or score independent windows `(indices, start)` concurrently.

    Args:
        window: A `RankWindow` or a `ScoreWindow`.
        windows: The windows.

    Returns:
        What `window` returned for each of `windows`, in the same order.

    Raises:
        BaseExceptionGroup: One window raised; the others are cancelled.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(window(indices, start)) for indices, start in windows]
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
