"""Which windows to ask, in what order. A strategy is one file here and one line in STRATEGIES.

A strategy outside this package is named in the job config by "module:Class".
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from corpus_reranker.plugins import load_class

RankWindow: TypeAlias = Callable[[Sequence[int], int], Coroutine[Any, Any, list[int]]]
"""`await ask(indices, start)` shows the candidates at these indices to the LLM, in this order, and gives the same
indices back, best first. It never raises for a bad answer: a window without a usable one comes back in the order
it was given. One index alone comes back unasked.

`start` is where the best placed of them stands in the strategy's current order, 0-based; the output reports the
window as `[start, start + len(indices))`. In plans whose windows are not contiguous that tells how high the window
reaches and how many passages it showed, not which."""


class Strategy(Protocol):
    """A frozen dataclass whose fields are its settings and whose __post_init__ raises ValueError on bad ones.

    The same answers must lead to the same windows: no clock, no unseeded randomness, and windows asked in an
    order that does not depend on which of them is answered first (`ask_all` keeps it).
    """

    @property
    def max_window(self) -> int:
        """The most passages it puts in one window."""
        ...

    def max_windows(self, num_candidates: int) -> int:
        """The most windows it asks for so many candidates."""
        ...

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        """The final order: every index below `num_candidates` exactly once, best first."""
        ...


async def rank_windows(rank_window: RankWindow, windows: Iterable[tuple[Sequence[int], int]]) -> list[list[int]]:
    """Ask windows `(indices, start)` that do not wait for each other, and give the answers in the same order.

    If one raises, the others are cancelled and the errors come in an exception group, as from any TaskGroup.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rank_window(indices, start)) for indices, start in windows]
    return [task.result() for task in tasks]


async def rank_windows_shuffled(
    rank_window: RankWindow, windows: Sequence[tuple[Sequence[int], int]], seed: str
) -> list[list[int]]:
    """`ask_all`, with each window shown in an order drawn from `seed`, so that places in the prompt favour nobody.

    A window that comes back as it was shown had no usable answer, or one chance in 120 or more, and is given back in
    its own order. Windows of fewer than five are shown as they are: there, coming back unchanged means nothing.
    """
    rng = random.Random(seed)
    shown = [rng.sample(indices, len(indices)) if len(indices) >= 5 else list(indices) for indices, _ in windows]
    answers = await rank_windows(
        rank_window, [(order, start) for order, (_, start) in zip(shown, windows, strict=True)]
    )
    return [
        list(indices) if answer == order else answer
        for answer, order, (indices, _) in zip(answers, shown, windows, strict=True)
    ]


STRATEGIES: dict[str, str] = {
    "active": "corpus_reranker.ranking.strategies.active:Active",
    "full_list": "corpus_reranker.ranking.strategies.full_list:FullList",
    "shuffle_consensus": "corpus_reranker.ranking.strategies.shuffle_consensus:ShuffleConsensus",
    "single_window": "corpus_reranker.ranking.strategies.single_window:SingleWindow",
    "sliding_window": "corpus_reranker.ranking.strategies.sliding_window:SlidingWindow",
    "top_down": "corpus_reranker.ranking.strategies.top_down:TopDown",
    "tournament": "corpus_reranker.ranking.strategies.tournament:Tournament",
}


def strategy_class(name: str) -> type[Strategy]:
    """The strategy registered under `name`, or the class that "module:Class" names. Raises ValueError if none."""
    cls: type[Strategy] = load_class("strategy", name, STRATEGIES)
    return cls
