"""`corpus-reranker rerank` as a process of its own that tests may signal, with a watchdog."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.paths import REPOSITORY

POLL_SECONDS = 0.02
WATCHDOG_SECONDS = 180.0
"""A run here works some 20 s on two free cores; one that neither ends nor shows what is waited for is hung."""


class HangError(Exception):
    """A run did nothing for too long."""


class RerankProcess:
    """One start of the job. Its output goes to a file, which `said` returns."""

    def __init__(self, config: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self._message = config.parent / f"said-{time.time_ns()}.txt"
        command = [sys.executable, "-m", "corpus_reranker", "rerank", "--config", str(config), *options]
        with self._message.open("wb") as prefix:
            self._process = subprocess.Popen(
                command,
                stdout=prefix,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/pipeline:{REPOSITORY}/tests", **(environment or {})},
                start_new_session=True,
                preexec_fn=_hear_sigint,
            )

    @property
    def prefix(self) -> str:
        return self._message.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)

    def wait_until(self, condition: Callable[[], bool], watchdog_seconds: float = WATCHDOG_SECONDS) -> bool:
        """Wait for the condition: True; or the process's end: False. Raises HangError."""
        deadline = time.monotonic() + watchdog_seconds
        while self.running():
            if condition():
                return True
            if time.monotonic() > deadline:
                raise HangError(f"nothing for {watchdog_seconds:.0f} s; it said:\n{self.prefix[-2000:]}")
            time.sleep(POLL_SECONDS)
        return condition()

    def wait(self, watchdog_seconds: float = WATCHDOG_SECONDS) -> int:
        """Its exit code. Raises HangError."""
        self.wait_until(lambda: False, watchdog_seconds)
        return self._process.wait()

    def end(self) -> None:
        """Whatever it does, and all it started that is in its session."""
        if self.running():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def rerank_process(config: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[RerankProcess]:
    """A run that is ended, if it has not ended itself, with the context."""
    process = RerankProcess(config, *options, environment=environment)
    try:
        yield process
    finally:
        process.end()


def _hear_sigint() -> None:
    """A shell's background job ignores it, and so do all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
