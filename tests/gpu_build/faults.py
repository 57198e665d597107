"""GPU faults that a test injects into one step of a stub worker."""

import os
import signal
import threading
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Fault: TypeAlias = Literal["out_of_memory", "hang", "death"]
"""out_of_memory: the step raises torch.OutOfMemoryError. hang: it does not return. death: the process is killed."""

FOLDER_VARIABLE = "STUB_FAULTS"
"""Environment variable with the folder in which a file named after a fault injects it."""

_LONGEST_HANG_SECONDS = 1800.0
"""No process outlives its test by more than this."""


def inject(fault: Fault) -> Path:
    """Make the next step of one engine fail in this way. The returned file disappears when that step fails."""
    path = Path(os.environ[FOLDER_VARIABLE]) / fault
    path.touch()
    return path


def fail_if_injected() -> None:
    """Fail if a test has injected a fault that no other engine has taken."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    for fault in get_args(Fault):
        try:
            (folder / fault).unlink()
        except FileNotFoundError:
            continue
        _fail(fault)


def _fail(fault: Fault) -> None:
    import torch

    match fault:
        case "out_of_memory":
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.19 GiB in total."
            )
        case "hang":
            threading.Event().wait(_LONGEST_HANG_SECONDS)
        case "death":
            os.kill(os.getpid(), signal.SIGKILL)
