"""Run a function that parses bytes from outside in a process of its own, with bounded memory.

pyarrow aborts on some broken footers (an exception of C++ that it does not catch), and a page can claim gigabytes:
here that ends a child, not the driver. What the child needed besides is not the driver's for the rest of the run.
The child dies with its driver: what it does to an output must not go on beside the next driver.
"""

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from corpus_reranker.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")

MEMORY_BYTES = 8 * 2**30
"""Of address space, of which the libraries alone map about two."""

_CHILD = "import sys; from corpus_reranker.io.isolation import _serve; _serve(sys.argv[1], *map(int, sys.argv[2:]))"

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that the kernel sends when the thread that started this process ends."""


def run_in_subprocess(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What `function(*arguments, **options)` returns or raises; all of it must pickle. Costs about a second.

    Raises InputError if the process ends without an answer.
    """
    return _run_in_subprocess(MEMORY_BYTES, function, arguments, options)


def _run_in_subprocess(memory_bytes: int, function: Callable[..., T], arguments: Any, options: Any) -> T:
    with tempfile.TemporaryDirectory(prefix="reranker-") as folder:
        question, answer = Path(folder, "question"), Path(folder, "answer")
        with question.open("wb") as file:
            pickle.dump((function, arguments, options), file)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-c", _CHILD, folder, str(memory_bytes), str(os.getpid())]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=False)  # noqa: S603
        if not answer.exists():
            last_line = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
            raise InputError(
                f"reading took down the process that did it (exit code {done.returncode}: {last_line}); "
                "a file is damaged, or made to do harm"
            )
        with answer.open("rb") as file:
            returned, value = pickle.load(file)  # noqa: S301 - written by our own child
    if not returned:
        raise value
    result: T = value
    return result


def _serve(folder: str, memory_bytes: int, parent: int) -> None:
    _die_with(parent)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Path(folder, "question").open("rb") as file:
        function, arguments, options = pickle.load(file)  # noqa: S301 - our parent's
    try:
        answer = True, function(*arguments, **options)
    except MemoryError:
        fix = "a file is made to do harm, or one run has tens of millions of queries: split them"
        answer = False, InputError(f"reading takes more than {memory_bytes} bytes; {fix}")
    except Exception as error:  # raised again in the parent
        answer = False, error
    with Path(folder, "partial").open("wb") as file:
        pickle.dump(answer, file)
    Path(folder, "partial").rename(Path(folder, "answer"))


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # which ended before the kernel knew
        os._exit(1)
