"""One attempt: a run with faults at seeded moments, restarted until it finishes, and a check of its output."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from helpers.request_log import RequestLog
from helpers.rerank_process import HangError, RerankProcess, rerank_process
from helpers.scenario import WINDOW_SECONDS, WINDOWS_PER_QUERY, OutputCheck, Ranking, Scenario, check_output

MAX_STARTS = 12
STARTUP_SECONDS = 8.0
FINAL_SECONDS = 3.0
MAX_WINDOW_SECONDS = 1.5
"""A little longer than a window of `SLOW_QUERIES` in helpers/scenario.py."""


@dataclass(frozen=True, slots=True)
class Moment:
    """`seconds` after `windows` distinct windows were requested."""

    windows: int
    seconds: float


def draw_moments(rng: random.Random, scenario: Scenario, count: int) -> list[Moment]:
    """Draw sorted moments: 10 % during startup, 10 % after the last window was requested, the rest in between."""
    total = scenario.queries * WINDOWS_PER_QUERY
    moments = []
    for _ in range(count):
        phase = rng.random()
        if phase < 0.1:
            moments.append(Moment(0, rng.uniform(0, STARTUP_SECONDS)))
        elif phase > 0.9:
            moments.append(Moment(total, rng.uniform(0, FINAL_SECONDS)))
        else:
            moments.append(Moment(rng.randrange(1, total), rng.uniform(0, WINDOW_SECONDS)))
    return sorted(moments, key=lambda moment: (moment.windows, moment.seconds))


@dataclass(slots=True)
class Target:
    """The running job that a fault acts on."""

    scenario: Scenario
    process: RerankProcess
    log: RequestLog
    random: random.Random
    environment: dict[str, str]


Fault = Callable[[Target], bool]
"""Injects a fault and returns once the fault is over: True, or False if there was nothing to act on.

Raises AssertionError if a guarantee does not hold.
"""


@dataclass(frozen=True, slots=True)
class Injection:
    """One injected fault, with the windows it met and the time until work continued.

    Attributes:
        in_flight: Windows in flight when the fault began.
        unfinished: Windows requested before the fault that belong to unfinished queries, those in flight included.
        recovery_seconds: From the end of the fault to the next request (by a new process, if the fault kills one),
            or to the end of the run if no request followed.
    """

    in_flight: int
    unfinished: int
    recovery_seconds: float


@dataclass(slots=True)
class Attempt:
    """What happened in one attempt.

    Attributes:
        outcome: "finished", or the error.
        exit_codes: Exit codes of all starts but the last, whose exit code is 0.
        requested: Windows requested, repetitions included.
        requested_again: Repeated requests.
    """

    outcome: str
    seed: int
    injections: list[Injection] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    requested: int = 0
    requested_again: int = 0
    seconds: float = 0.0
    output: OutputCheck = field(default_factory=lambda: OutputCheck(0, 0, 0, False))

    @property
    def passed(self) -> bool:
        return self.outcome == "finished" and self.output.passed


def run_attempt(
    scenario: Scenario,
    baseline: dict[str, Ranking],
    fault: Fault,
    *,
    seed: int,
    num_faults: int,
    kills_process: bool = True,
    environment: Callable[[], dict[str, str]] = dict,
    moments: Sequence[Moment] | None = None,
) -> Attempt:
    """Start the job, inject `fault` at each moment, and start the job again until its exit code is 0.

    Args:
        baseline: Rankings of a run without faults.
        num_faults: Faults to inject, if `moments` is not given.
        kills_process: The fault kills a driver or a replica, so that recovery needs a new process.
        environment: Returns the environment variables for the next start.
    """
    rng = random.Random(seed)
    log = RequestLog(scenario.log_path)
    attempt = Attempt("finished", seed)
    remaining = list(moments or draw_moments(rng, scenario, num_faults))
    intervals: list[tuple[float, float]] = []
    started = time.time()
    try:
        while not _run_once(scenario, fault, rng, log, attempt, remaining, intervals, environment()):
            if len(attempt.exit_codes) >= MAX_STARTS:
                attempt.outcome = f"not finished after {MAX_STARTS} starts"
                break
    except (HangError, AssertionError) as error:
        attempt.outcome = f"{type(error).__name__}: {error}"
    ended = time.time()
    attempt.output = check_output(scenario, baseline)
    log.read()
    for begin, end in intervals:
        next_request = log.first_request_after(end, by_new_process=kills_process)
        in_flight = log.in_flight(begin, MAX_WINDOW_SECONDS)
        unfinished = log.unfinished(begin, WINDOWS_PER_QUERY)
        attempt.injections.append(Injection(in_flight, unfinished, (next_request or ended) - end))
    attempt.requested, attempt.requested_again = log.requested, log.requested_again
    attempt.seconds = ended - started
    return attempt


def _run_once(
    scenario: Scenario,
    fault: Fault,
    rng: random.Random,
    log: RequestLog,
    attempt: Attempt,
    remaining: list[Moment],
    intervals: list[tuple[float, float]],
    environment: dict[str, str],
) -> bool:
    """Start the job once and return whether it finished. Adds (begin, end) of each fault to `intervals`."""
    with ExitStack() as stack:
        process = stack.enter_context(rerank_process(scenario.config_path, environment=environment))
        while remaining:
            moment = remaining[0]
            process.wait_until(lambda: log.read().distinct >= moment.windows)  # noqa: B023 - called in this iteration
            due = time.monotonic() + moment.seconds
            process.wait_until(lambda: time.monotonic() >= due)  # noqa: B023
            if not process.running():
                break
            remaining.pop(0)
            begin = time.time()
            if fault(Target(scenario, process, log, rng, environment)):
                intervals.append((begin, time.time()))
        code = process.wait()
        if code != 0:
            attempt.exit_codes.append(code)
        assert "(raylet)" not in process.output, process.output
        return code == 0
