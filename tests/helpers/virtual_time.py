"""An event loop whose clock jumps to the next timer, so that hours of waiting take no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Adds the time that it should wait to the clock, and does not wait."""

    seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left to wait for")
        self.seconds += timeout
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> Any:  # type: ignore[override]
        """Call `function` at once: the clock would jump while another thread works."""
        done: asyncio.Future[Any] = self.create_future()
        done.set_result(function(*arguments))
        return done

    def time(self) -> float:
        return self._jumping.seconds


def run_in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine`, which does no I/O, on a loop with a virtual clock that starts at 0."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(coroutine)
