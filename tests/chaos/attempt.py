"""One trial: a run that meets faults at seeded moments, the same command again until it is done, and a verdict."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from helpers.request_log import RequestLog
from helpers.rerank_process import HangError, RerankProcess, rerank_process
from helpers.scenario import WINDOW_SECONDS, WINDOWS_PER_QUERY, Found, Ranking, Scenario, judge

STARTS_AT_MOST = 12
START_SECONDS = 8.0
END_SECONDS = 3.0
LONGEST_WINDOW_SECONDS = 1.5
"""Of those in scene.py; a little more than the slowest."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When `windows` different windows have been asked, and `seconds` after that."""

    windows: int
    seconds: float


def draw_moments(random_: random.Random, scenario: Scenario, count: int) -> list[Moment]:
    """Sorted. One in ten while the run starts, one in ten after its last window was asked, the rest in between."""
    total = scenario.queries * WINDOWS_PER_QUERY
    moments = []
    for _ in range(count):
        position = random_.random()
        if position < 0.1:
            moments.append(Moment(0, random_.uniform(0, START_SECONDS)))
        elif position > 0.9:
            moments.append(Moment(total, random_.uniform(0, END_SECONDS)))
        else:
            moments.append(Moment(random_.randrange(1, total), random_.uniform(0, WINDOW_SECONDS)))
    return sorted(moments, key=lambda moment: (moment.windows, moment.seconds))


@dataclass(slots=True)
class Running:
    """What a fault may take hold of."""

    scenario: Scenario
    process: RerankProcess
    log: RequestLog
    random: random.Random
    environment: dict[str, str]


Fault = Callable[[Running], bool]
"""Does its harm, and returns when that is over: whether there was anything to harm. Raises AssertionError where a
guarantee does not hold."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault as it happened. `recovery_seconds` is from its end to the next window asked (by a process that is new,
    where the fault took one), or to the run's end if none was left to ask. `unfinished` are the windows asked so far of
    queries that were not done, those in flight among them."""

    in_flight: int
    unfinished: int
    recovery_seconds: float


@dataclass(slots=True)
class Trial:
    """`outcome` is "finished", or what went wrong. `exit_codes` are those of all starts but the last, which is 0."""

    outcome: str
    seed: int
    strikes: list[Strike] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    requested: int = 0
    asked_twice: int = 0
    seconds: float = 0.0
    found: Found = field(default_factory=lambda: Found(0, 0, 0, False))

    @property
    def good(self) -> bool:
        return self.outcome == "finished" and self.found.good


def run_attempt(
    scenario: Scenario,
    baseline: dict[str, Ranking],
    fault: Fault,
    *,
    seed: int,
    strikes: int,
    takes_a_process: bool = True,
    environment: Callable[[], dict[str, str]] = dict,
    moments: Sequence[Moment] | None = None,
) -> Trial:
    """Start the job; at each moment let the fault strike; start it again whenever it ended otherwise than well."""
    seeded = random.Random(seed)
    log = RequestLog(scenario.log_path)
    attempt = Trial("finished", seed)
    waiting = list(moments or draw_moments(seeded, scenario, strikes))
    times: list[float] = []
    began = time.time()
    try:
        while not _one_start(scenario, fault, seeded, log, attempt, waiting, times, environment()):
            if len(attempt.exit_codes) >= STARTS_AT_MOST:
                attempt.outcome = f"not finished after {STARTS_AT_MOST} starts"
                break
    except (HangError, AssertionError) as error:
        attempt.outcome = f"{type(error).__name__}: {error}"
    ended = time.time()
    attempt.found = judge(scenario, baseline)
    log.read()
    for injected, end in zip(times[::2], times[1::2], strict=True):
        next_asked = log.first_asked_after(end, by_new_process=takes_a_process)
        in_flight = log.in_flight(injected, LONGEST_WINDOW_SECONDS)
        unfinished = log.unfinished(injected, WINDOWS_PER_QUERY)
        attempt.strikes.append(Strike(in_flight, unfinished, (next_asked or ended) - end))
    attempt.requested, attempt.asked_twice, attempt.seconds = log.requested, log.asked_twice, ended - began
    return attempt


def _one_start(
    scenario: Scenario,
    fault: Fault,
    seeded: random.Random,
    log: RequestLog,
    attempt: Trial,
    waiting: list[Moment],
    times: list[float],
    environment: dict[str, str],
) -> bool:
    """Whether the run finished. Times of faults, begin and end in turn, are added to `times`."""
    with ExitStack() as stack:
        process = stack.enter_context(rerank_process(scenario.config_path, environment=environment))
        while waiting:
            moment = waiting[0]
            process.wait_until(lambda: log.read().different >= moment.windows)  # noqa: B023 - called in this turn
            reached = time.monotonic() + moment.seconds
            process.wait_until(lambda: time.monotonic() >= reached)  # noqa: B023
            if not process.running():
                break
            waiting.pop(0)
            injected = time.time()
            if fault(Running(scenario, process, log, seeded, environment)):
                times += [injected, time.time()]
        code = process.wait()
        if code != 0:
            attempt.exit_codes.append(code)
        return code == 0
