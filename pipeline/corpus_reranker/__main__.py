"""Entry point of `corpus-reranker NAME`, `python -m corpus_reranker NAME` and `python jobs/NAME.py`."""

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from corpus_reranker.cli.app import app

PROGRAM = "corpus-reranker"

_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a command that a signal stopped. By then, it has released its lease and other resources."""


def main() -> None:
    """Run the command that the command line names and exit with its code."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell starts background jobs with SIGINT ignored
        signal.signal(signal.SIGINT, _stop)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("huggingface_hub").propagate = False  # its own handler prints each message already
    try:
        app(prog_name=PROGRAM)
    except SystemExit as stop:
        if stop.code in _STOPPED:  # Ray's core may abort while the interpreter shuts down, or take more than 3 s
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(stop.code)
        raise
    finally:  # a signal while the interpreter and Ray shut down ends the process at once
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) == _stop:
                signal.signal(number, _exit_at_once)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind the stack, so that a run releases its lease. A second signal ends the process, without a stack trace."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            _exit_at_once(number, frame)
        error = error.__context__
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
