"""No engine core outlives its replica.

vLLM's engine core does not notice that its parent was killed: it waits for requests for ever, and holds its GPU
memory. Ray ends what is left in a dead worker's process group, unless the raylet was killed too. Then this guard does.
"""

import os
import subprocess
import sys

_GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"


def guard_process_group() -> "subprocess.Popen[bytes] | None":
    """Start a process that kills this process's group when this process is gone, however it went.

    Close the guard's stdin to the same effect, kill the guard to call it off. None, and no guard, unless this process
    leads its group, as a Ray worker does: another's group is not ours to kill.
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
