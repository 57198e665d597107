"""The event loop of a replica, in a separate thread. If it ends, the process ends."""

import asyncio
import os
import sys
import threading
import traceback

FAILED_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h. After any exit, Ray restarts the actor and gives it its unfinished blocks again."""


def guarded_loop() -> asyncio.AbstractEventLoop:
    """Start a loop that runs until the process ends.

    `sys.exit` in a coroutine ends its loop without a message. If the process continued, all queries of the replica
    would wait forever.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run, args=(loop,), name="rerank", daemon=True).start()
    return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    except BaseException as error:
        sys.stderr.write("".join(traceback.format_exception(error)))
    finally:
        sys.stderr.write(f"replica process {os.getpid()}: exiting because its event loop ended\n")
        os._exit(FAILED_EXIT_CODE)
