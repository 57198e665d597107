"""Ends vLLM's processes together with their replica.

vLLM's engine core does not notice that its parent was killed: it waits for requests and keeps its GPU memory. Ray kills
the process group of a dead worker, unless the raylet was killed too. The guard process covers that case.
"""

import os
import subprocess
import sys

_GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"


def guard_process_group() -> "subprocess.Popen[bytes] | None":
    """Start a process that kills this process's group after this process has ended for any reason.

    Closing the guard's stdin has the same effect; killing the guard disables it.

    Returns:
        The guard. None unless this process leads its group, as a Ray worker does: no other group may be killed.
    """
    if os.getpgrp() != os.getpid():
        return None
    return subprocess.Popen(  # noqa: S603 (nothing in it comes from outside)
        [sys.executable, "-ISc", _GUARD, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
