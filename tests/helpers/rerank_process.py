"""`corpus-reranker rerank` in its own process, which tests may signal, with a watchdog."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.paths import REPOSITORY

POLL_SECONDS = 0.05
WATCHDOG_SECONDS = 420.0
"""A run takes about 20 s on two free cores. A run that neither ends nor meets the awaited condition is hung."""


class HangError(Exception):
    """The run neither ended nor met the condition in time."""


class RerankProcess:
    """One start of the job. Its stdout and stderr go to a file, which `output` reads."""

    def __init__(self, config: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self._output_path = config.parent / f"output-{time.time_ns()}.txt"
        command = [sys.executable, "-m", "corpus_reranker", "rerank", "--config", str(config), *options]
        with self._output_path.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/pipeline:{REPOSITORY}/tests", **(environment or {})},
                start_new_session=True,
                preexec_fn=_restore_sigint,
            )

    @property
    def output(self) -> str:
        return self._output_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)

    def wait_until(self, condition: Callable[[], bool], watchdog_seconds: float = WATCHDOG_SECONDS) -> bool:
        """Wait until the condition holds or the process ends.

        Returns:
            Whether the condition holds.

        Raises:
            HangError: Neither happened within `watchdog_seconds`.
        """
        deadline = time.monotonic() + watchdog_seconds
        while self.running():
            if condition():
                return True
            if time.monotonic() > deadline:
                raise HangError(f"no progress for {watchdog_seconds:.0f} s; output:\n{self.output[-2000:]}")
            time.sleep(POLL_SECONDS)
        return condition()

    def wait(self, watchdog_seconds: float = WATCHDOG_SECONDS) -> int:
        """Wait for the end of the process, and return its exit code.

        Raises:
            HangError: The process is still running after `watchdog_seconds`.
        """
        self.wait_until(lambda: False, watchdog_seconds)
        return self._process.wait()

    def kill_session(self) -> None:
        """Kill the process and every process of its session."""
        if self.running():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def rerank_process(config: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[RerankProcess]:
    """A run that is killed when the context exits, if it is still running."""
    process = RerankProcess(config, *options, environment=environment)
    try:
        yield process
    finally:
        process.kill_session()


def _restore_sigint() -> None:
    """Undo the SIGINT handler that a background job of a shell inherits: it ignores the signal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
