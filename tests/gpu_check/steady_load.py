"""Keep an engine full, as a replica of the job does, and count what it answers. Standard library alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

MIN_WINDOWS = 20
"""Minimum number of completions for a rate."""

WARM_UP_FRACTION = 0.5
"""Completions before the measurement, as a fraction of the windows in flight: the first prompts, which the engine reads
all at once, are over by then."""

_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Measurement:
    """What an engine did between the first and the last completion that count."""

    windows: int
    seconds: float
    output_tokens: int
    running: float
    """Windows that the engine worked on at once, on average; the others in flight waited in its queue."""

    kv_cache_usage: float
    """Used fraction of the KV cache, on average."""

    preemptions: int
    """Windows whose KV cache was freed for others, and which the engine has to read again."""

    @property
    def windows_per_second(self) -> float:
        return self.windows / self.seconds

    @property
    def output_tokens_per_second(self) -> float:
        return self.output_tokens / self.seconds

    @property
    def preemptions_per_100(self) -> float:
        """For each 100 windows."""
        return 100 * self.preemptions / self.windows


@dataclass(frozen=True, slots=True)
class Completed:
    """One completion: the clock's time in seconds, and its output tokens."""

    time: float
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The engine's own counters at one time. `preemptions` counts from its start, the others are gauges."""

    time: float
    running: float
    kv_cache_usage: float
    preemptions: float


def output_lengths(in_flight: int, output_tokens: int, seed: int = 0) -> list[int]:
    """Output tokens of the first `in_flight` windows, in random order: a different part of a whole output for each.

    They end one after another, as in the middle of a run, instead of all at once.
    """
    lengths = [max(1, round(output_tokens * (number + 1) / in_flight)) for number in range(in_flight)]
    random.Random(seed).shuffle(lengths)
    return lengths


def measure(completed: Sequence[Completed], samples: Sequence[Sample], warm_up: int) -> Measurement:
    """Figures from the completions after the first `warm_up`.

    Raises:
        ValueError: If fewer than MIN_WINDOWS are left.
    """
    counted = completed[warm_up:]
    if len(counted) < MIN_WINDOWS + 1:
        raise ValueError(
            f"only {len(completed)} windows ended in time; {warm_up + MIN_WINDOWS + 1} are needed, "
            f"the first {warm_up} as warm-up"
        )
    start, end = counted[0].time, counted[-1].time
    inside = [sample for sample in samples if start <= sample.time <= end] or list(samples[-1:])
    return Measurement(
        windows=len(counted) - 1,
        seconds=end - start,
        output_tokens=sum(each.output_tokens for each in counted[1:]),
        running=_mean([sample.running for sample in inside]),
        kv_cache_usage=_mean([sample.kv_cache_usage for sample in inside]),
        preemptions=round(inside[-1].preemptions - inside[0].preemptions) if inside else 0,
    )


async def keep_in_flight(
    answer: Callable[[int, int], Awaitable[int]],
    counters: Callable[[], Mapping[str, float]],
    in_flight: int,
    output_tokens: int,
    seconds: float,
) -> Measurement:
    """Start a window whenever one ends, for `seconds`, and measure.

    Args:
        answer: Answers a window, given its number and its output tokens; returns how many tokens it generated.
        counters: The engine's `running`, `kv_cache_usage` and `preemptions`.
        in_flight: Windows that the engine is given at once.
        output_tokens: Length of a whole output.
        seconds: How long windows are started. Those in flight at the end are cancelled.

    Raises:
        ValueError: If too few windows ended.
    """
    loop = asyncio.get_running_loop()
    completed: list[Completed] = []
    samples: list[Sample] = []
    numbers = iter(range(10**9))

    async def one_after_another(first_tokens: int) -> None:
        tokens = first_tokens
        while True:
            generated = await answer(next(numbers), tokens)
            completed.append(Completed(loop.time(), generated))
            tokens = output_tokens

    async def sample() -> None:
        while True:
            samples.append(Sample(loop.time(), **counters()))
            await asyncio.sleep(_SAMPLE_SECONDS)

    tasks = [asyncio.create_task(one_after_another(tokens)) for tokens in output_lengths(in_flight, output_tokens)]
    tasks.append(asyncio.create_task(sample()))
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()  # only an error ends a task early
    return measure(completed, samples, round(in_flight * WARM_UP_FRACTION))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
