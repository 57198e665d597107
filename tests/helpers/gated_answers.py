"""Responses of the scripted engine, and scores of the scripted pre-ranker, that change while a test runs.

A fault that must happen once over all processes leaves a marker file.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from corpus_reranker.engines.scripted import Answer, reverse_order
from corpus_reranker.engines.scripted_pre_ranker import PassageScore
from corpus_reranker.errors import EngineDeadError, EngineStartError, RequestError
from corpus_reranker.types import SamplingParams


def gated(gate: str, substring: str) -> Answer:
    """Fail on prompts with `substring` until the file `gate` exists."""
    answer = reverse_order()

    def answer_or_fail(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if substring in text and not Path(gate).exists():
            raise RequestError("the gate is closed")
        return answer(text, params)

    return answer_or_fail


def waits(gate: str, substring: str = "") -> Answer:
    """Complete no request with `substring` until the file `gate` exists, and fail such requests after ten minutes."""
    return _reverse_order_once(Path(gate).exists, substring, 600, "the gate is closed")


def after_the_others(log: str, substring: str, completed: int) -> Answer:
    """Answer prompts with `substring` once the request log has `completed` completions, and fail after a minute."""

    def is_complete() -> bool:
        return Path(log).read_text().count('"completed"') >= completed

    return _reverse_order_once(is_complete, substring, 60, "the others are not complete")


def _reverse_order_once(condition: Callable[[], bool], substring: str, seconds: int, error: str) -> Answer:
    """Answers that reverse the order; those to prompts with `substring` wait for a condition at most `seconds`."""
    answer = reverse_order()

    async def wait_and_answer(text: str, params: SamplingParams) -> str | tuple[str, str]:
        for _ in range(20 * seconds):
            if condition():
                return answer(text, params)
            await asyncio.sleep(0.05)
        raise RequestError(error)

    return lambda text, params: wait_and_answer(text, params) if substring in text else answer(text, params)


FAULTS: dict[str, Callable[[], None]] = {
    "engine dies": lambda: _raise(EngineDeadError("scripted death")),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "loop blocked": lambda: time.sleep(3600),
    "loop ended": lambda: sys.exit(0),
}
"""Ways in which a replica fails. The last three leave a process that no longer answers."""


def _raise(error: Exception) -> None:
    raise error


def faults_once(folder: str, faults: Mapping[str, str]) -> Answer:
    """Inject each fault (a name of FAULTS, by a substring of a prompt) on the first prompt with its substring.

    `folder` gets a file for each fault, with the id of its process. Two faults may hit one process.
    """
    answer = reverse_order()

    def answer_or_fail(text: str, params: SamplingParams) -> str | tuple[str, str]:
        for substring, fault in faults.items():
            marker = Path(folder, fault)
            if substring in text and not marker.exists():
                marker.write_text(str(os.getpid()))
                FAULTS[fault]()
        return answer(text, params)

    return answer_or_fail


def poison(exits: str, dies: str | None = None) -> Answer:
    """Let the engine die on every prompt with `dies`, and end the process on every prompt with `exits`.

    A crash of a native library ends the process in this way.
    """
    answer = reverse_order()

    def answer_or_die(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if dies and dies in text:
            raise EngineDeadError("scripted death")
        if exits in text:
            os._exit(139)
        return answer(text, params)

    return answer_or_die


def dies_at_every(nth: int) -> Answer:
    """Let the engine of each process die at its request number `nth`, whatever the prompt."""
    answer, requests = reverse_order(), itertools.count(1)

    def answer_or_die(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if next(requests) == nth:
            raise EngineDeadError("scripted death")
        return answer(text, params)

    return answer_or_die


def starts_again_late(folder: str, failures: int) -> Answer:
    """Let the first engine die on its first request, and the next engines not start, `failures` times."""
    starts = len(list(Path(folder).glob("start-*")))
    Path(folder, f"start-{starts}").touch()
    if 1 <= starts <= failures:
        raise EngineStartError("no such GPU")
    answer = reverse_order()

    def answer_or_die(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if starts == 0:
            raise EngineDeadError("scripted death")
        return answer(text, params)

    return answer_or_die


def second_starts_late(log: str, requested: int, total: int) -> Answer:
    """Delay the start of one of two engines until the other engine has received `requested` requests.

    No request is answered before both together have `total` requests, and each fails after a minute.
    """
    answer = reverse_order()

    def num_requests() -> int:
        return Path(log).read_text().count('"requested"')

    async def wait_and_answer(text: str, params: SamplingParams) -> str | tuple[str, str]:
        for _ in range(1200):
            if num_requests() >= total:
                return answer(text, params)
            await asyncio.sleep(0.05)
        raise RequestError("the other engine has no request")

    try:
        Path(log).touch(exist_ok=False)
    except FileExistsError:
        while num_requests() < requested:
            time.sleep(0.05)
    return wait_and_answer


def last_first(marker: str) -> PassageScore:
    """Score passages by their number, fail on q0002, and die on q0004 the first time."""

    def score(query: str, passage: str) -> float:
        if "q0002" in query:
            raise RequestError("scripted failure")
        if "q0004" in query and not Path(marker).exists():
            Path(marker).touch()
            raise EngineDeadError("scripted death")
        return float(passage.split()[1])

    return score
