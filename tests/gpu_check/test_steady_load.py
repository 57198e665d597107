"""An engine kept full, and what is counted of it."""

import asyncio

import pytest

from gpu_check.steady_load import MIN_WINDOWS, Completed, Sample, keep_in_flight, measure, output_lengths


def test_the_first_windows_have_a_different_part_of_an_output_each() -> None:
    lengths = output_lengths(10, 100)
    assert sorted(lengths) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert lengths != sorted(lengths)
    assert min(output_lengths(1000, 10)) == 1


def test_a_rate_is_that_of_the_completions_after_the_warm_up() -> None:
    slow = [Completed(10.0 * number, 5) for number in range(3)]
    steady = [Completed(100 + 0.5 * number, 7) for number in range(MIN_WINDOWS + 1)]
    samples = [Sample(0, 99, 0.9, 4), Sample(100, 10, 0.5, 5), Sample(105, 20, 0.7, 8), Sample(200, 99, 0.9, 50)]
    measured = measure([*slow, *steady], samples, warm_up=3)
    assert (measured.windows, measured.seconds) == (MIN_WINDOWS, 10)
    assert measured.windows_per_second == 2
    assert measured.output_tokens_per_second == 14
    assert measured.running == 15
    assert measured.kv_cache_usage == pytest.approx(0.6)
    assert measured.preemptions == 3
    assert measured.preemptions_per_100 == 15


def test_too_few_windows_are_no_rate() -> None:
    completed = [Completed(float(number), 1) for number in range(10)]
    with pytest.raises(ValueError, match="only 10 windows ended in time; 26 are needed, the first 5 as warm-up"):
        measure(completed, [], warm_up=5)


async def test_the_requested_number_of_windows_is_in_flight() -> None:
    waiting: list[asyncio.Future[int]] = []
    numbers: list[int] = []
    at_once: list[int] = []

    async def answer(number: int, output_tokens: int) -> int:
        numbers.append(number)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        at_once.append(sum(not each.done() for each in waiting))
        await future
        return output_tokens

    async def complete_one_after_another() -> None:
        completed = 0
        while len(numbers) < 100:
            await asyncio.sleep(0)
            if completed < len(waiting):
                waiting[completed].set_result(1)
                completed += 1

    def counters() -> dict[str, float]:
        return {"running": 1.0, "kv_cache_usage": 0.5, "preemptions": 0.0}

    completing = asyncio.create_task(complete_one_after_another())
    measured = await keep_in_flight(answer, counters, 8, 50, seconds=2)
    await completing
    assert numbers == list(range(len(numbers)))
    assert max(at_once) == 8
    assert measured.windows > MIN_WINDOWS
    assert all(future.done() for future in waiting), "those in flight at the end are cancelled"


async def test_an_error_of_the_engine_ends_the_measurement() -> None:
    async def answer(number: int, output_tokens: int) -> int:
        raise ConnectionError("the engine died")

    with pytest.raises(ConnectionError, match="the engine died"):
        await keep_in_flight(answer, lambda: {"running": 0, "kv_cache_usage": 0, "preemptions": 0}, 2, 5, seconds=60)
