"""Admission by an engine's capacity: full, never much more, and long chains first."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataflow.admission import Admission
from pipeline.in_flight import Capacity, with_spare
from pipeline.records import Completion


async def test_it_fills_up_as_soon_as_a_prompt_tells_its_length() -> None:
    admission = Admission(Capacity(256, 1_000_000), max_tokens=4000)
    leave = asyncio.Event()

    async def hold() -> None:
        async with admission.query(9):
            with admission.window(9500):  # and 1,000 / 2 of the answer: 100 fit
                await leave.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(hold())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (admission.queries, admission.windows, admission.target) == (113, 113, 113)
        leave.set()
    assert (admission.queries, admission.windows) == (0, 0)


async def test_the_target_follows_the_lengths_of_answers() -> None:
    admission = Admission(Capacity(10_000, 1_000_000), max_tokens=400)
    with admission.window(950):
        pass
    before = admission.target
    for _ in range(5000):
        admission.answered(Completion("", "stop", 950, 2100))
    assert (before, admission.target) == (with_spare(1000), with_spare(500))


async def test_the_longest_chain_goes_first() -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed=1)
    order: list[int] = []

    async def ask(max_windows: int) -> None:
        async with admission.query(max_windows):
            order.append(max_windows)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for max_windows in (3, 9, 1, 5):
            group.create_task(ask(max_windows))
    assert order == [3, 9, 5, 1]


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=40))
async def test_cancelled_queries_give_their_places_back(fixed: int, queries: list[tuple[int, bool]]) -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed=fixed)
    done = 0
    most = 0

    async def ask(max_windows: int) -> None:
        nonlocal done, most
        async with admission.query(max_windows):
            most = max(most, admission.queries)
            await asyncio.sleep(0)
            done += 1

    tasks = [(asyncio.create_task(ask(max_windows)), cancel) for max_windows, cancel in queries]
    await asyncio.sleep(0)
    for task, cancel in tasks:
        if cancel:
            task.cancel()
    results = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert done >= sum(not cancel for _, cancel in queries)
    assert most <= fixed
    assert admission.queries == 0
