"""Entry point of `corpus-reranker NAME`, `python -m corpus_reranker NAME` and `python jobs/NAME.py`."""

import logging
import signal
import sys
from types import FrameType
from typing import NoReturn

from corpus_reranker.cli.app import app

PROGRAM = "corpus-reranker"


def main() -> None:
    """Run the command that the command line names and exit with its code."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    app(prog_name=PROGRAM)


def _exit_on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind the stack, as for Ctrl-C, so that a run releases its lease."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
