"""Which windows to ask, in what order. A strategy is one file here and one line in STRATEGIES.

A strategy outside this package is named in the job config by "module:Class".
"""

from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

Ask: TypeAlias = Callable[[Sequence[int], int], Coroutine[Any, Any, list[int]]]
"""`await ask(indices, start)` shows the candidates at these indices to the LLM, in this order, as the window
`[start, start + len(indices))`, and gives the same indices back, best first. It never raises for a bad answer:
a window without a usable one comes back in the order it was given."""


class Strategy(Protocol):
    """A frozen dataclass whose fields are its settings and whose __post_init__ raises ValueError on bad ones."""

    @property
    def max_window(self) -> int:
        """The most passages it puts in one window."""
        ...

    def max_windows(self, num_candidates: int) -> int:
        """The most windows it asks for so many candidates."""
        ...

    async def rank(self, num_candidates: int, ask: Ask) -> list[int]:
        """The final order: every index below `num_candidates` exactly once, best first."""
        ...


STRATEGIES: dict[str, str] = {
    "sliding_window": "pipeline.ranking.strategies.sliding_window:SlidingWindow",
}


def strategy_class(name: str) -> type[Strategy]:
    """The strategy registered under `name`, or the class that "module:Class" names. Raises ValueError if none."""
    target = STRATEGIES.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        raise ValueError(f'unknown strategy {name!r}; one of {", ".join(sorted(STRATEGIES))}, or "module:Class"')
    try:
        cls: type[Strategy] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot load strategy {name!r}: {error}") from error
    return cls
