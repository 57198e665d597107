"""Reports of a replica."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence


async def send_reports(reports: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Call `reports`. An error in one, for example in the `info` of a custom engine, does not stop the others.

    The error is printed and not raised, because it must not fail the queries that the replica has reranked.
    """
    for report in reports:
        try:
            await report()
        except Exception as error:  # the next report repeats what this one has not sent
            sys.stderr.write(f"replica process {os.getpid()}: cannot report: {type(error).__name__}: {error}\n")


async def report_periodically(reports: Sequence[Callable[[], Awaitable[None]]], interval_seconds: float = 1.0) -> None:
    """Call `reports` until the process ends.

    Errors do not end the loop: without reports, the run would not notice the end of its input or its limit on the cost.
    """
    while True:
        await asyncio.sleep(interval_seconds)
        await send_reports(reports)
