"""Run functions that parse untrusted bytes in one subprocess with bounded memory.

pyarrow aborts on some broken footers with an uncaught C++ exception, and a page can claim gigabytes. In these cases,
only the subprocess ends. Its memory is also not kept by the driver for the rest of the run. The subprocess dies with
its driver, so that it cannot change an output that the next driver writes.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from corpus_reranker.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")

MEMORY_BYTES = 8 * 2**30
"""Limit on the address space. The libraries alone map about two gigabytes."""

CALL_TIMEOUT_SECONDS = 24 * 3600.0
"""Bound on a parser that never returns. A call can read the query ids or the status columns of a whole corpus."""

_CHILD = "import sys; from corpus_reranker.io.isolation import _serve; _serve(*map(int, sys.argv[1:]))"

_ENVIRONMENT = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "4"}
"""The address space that libraries reserve grows with the number of CPUs: by default, Arrow and OpenBLAS have a thread
for each CPU, with its stack and buffers, and glibc has eight heaps of 64 MiB for each CPU."""

_STDERR_TAIL_BYTES = 4096

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that the kernel sends when the thread that started this process ends."""


class IsolatedProcess:
    """A subprocess that runs one call at a time. It starts with the first call and is replaced if it crashes.

    Use it as a context manager, in the thread that makes the calls.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._stderr = tempfile.TemporaryFile(prefix="reranker-")  # noqa: SIM115 - closed with the process

    def __enter__(self) -> "IsolatedProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._stderr.close()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function(*args, **kwargs)` in the subprocess. Function, arguments and result must pickle.

        Returns:
            What the function returns.

        Raises:
            InputError: The subprocess ended during the call, ran out of memory, or did not return in time.
            Exception: What the function raised.
        """
        return self.run_within(CALL_TIMEOUT_SECONDS, function, *args, **kwargs)

    def run_within(self, timeout_seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, for a call that must return within `timeout_seconds`."""
        connection = self._connection or self._start()
        try:
            connection.send((function, args, kwargs))
            if not connection.poll(timeout_seconds):
                raise InputError(f"reading has not returned for {timeout_seconds:.0f} seconds")
            returned, value = connection.recv()
        except (EOFError, ConnectionError):
            raise self._crash_error() from None
        except BaseException:  # a late reply must not be mistaken for that of the next call
            self._stop()
            raise
        if not returned:
            raise value
        result: T = value
        return result

    def _start(self) -> "Connection[Any, Any]":
        self._connection, child = Pipe()
        with child:
            python_path = os.pathsep.join(path for path in sys.path if path)
            environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": python_path}
            numbers = [str(number) for number in (child.fileno(), self._memory_bytes, os.getpid())]
            self._stderr.seek(0)
            self._stderr.truncate()
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _CHILD, *numbers],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[child.fileno()],
            )
        return self._connection

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _crash_error(self) -> InputError:
        assert self._process is not None
        code = self._process.wait()
        self._stop()
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(size - _STDERR_TAIL_BYTES, 0))
        last_line = self._stderr.read().decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        return InputError(
            f"reading crashed its subprocess (exit code {code}: {last_line}); a file may be damaged or malicious"
        )


def _serve(descriptor: int, memory_bytes: int, parent: int) -> None:
    """Run one call after the other in the subprocess, until the driver closes the connection."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches this process as well
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection: Connection[Any, Any] = Connection(descriptor)
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            return
        connection.send(_call(function, args, kwargs, memory_bytes))


def _call(function: Callable[..., Any], args: Any, kwargs: Any, memory_bytes: int) -> tuple[bool, Any]:
    try:
        return True, function(*args, **kwargs)
    except MemoryError:
        fix = "a file may be malicious, or the run has tens of millions of queries: split the input"
        return False, InputError(f"reading takes more than {memory_bytes} bytes; {fix}")
    except RecursionError:
        return False, InputError("reading recurses without end: the columns of a file are nested too deeply")
    except Exception as error:  # raised again in the driver
        return False, error


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call above took effect
        os._exit(1)
