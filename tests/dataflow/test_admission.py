"""Admission: as many windows in flight as the engine has capacity for, longest queries first."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.dataflow.admission import Admission
from corpus_reranker.dataflow.capacity import Capacity, with_headroom
from corpus_reranker.types import Completion


async def run_ready_tasks() -> None:
    """Let all tasks of the event loop run until each waits for an event."""
    for _ in range(1000):
        await asyncio.sleep(0)


async def test_the_first_prompt_sets_the_target() -> None:
    admission = Admission(Capacity(256, 1_000_000), max_tokens=4000)
    release = asyncio.Event()

    async def hold() -> None:
        async with admission.query(9) as slot, admission.window(slot, 9500):  # plus 1,000 / 2 output tokens: 100 fit
            await release.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(hold())
        await run_ready_tasks()
        assert (admission.queries_in_flight, admission.windows_in_flight) == (113, 113)
        assert admission.target_windows_in_flight == 113
        release.set()
    assert (admission.queries_in_flight, admission.windows_in_flight) == (0, 0)


async def test_the_target_follows_the_capacity() -> None:
    admission = Admission(Capacity(2), max_tokens=400)
    release = asyncio.Event()

    async def hold() -> None:
        async with admission.query(1) as slot, admission.window(slot, 100):
            await release.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(hold())
        await run_ready_tasks()
        assert admission.windows_in_flight == with_headroom(2)
        admission.update_capacity(Capacity(8))
        await run_ready_tasks()
        assert admission.windows_in_flight == with_headroom(8)
        release.set()


async def test_a_closed_admission_finishes_the_queries_that_have_begun() -> None:
    admission = Admission(Capacity(2), max_tokens=400)
    finished: list[int] = []
    first_windows = asyncio.Event()

    async def rerank(number: int) -> None:
        async with admission.query(2) as slot:
            for _ in range(2):
                async with admission.window(slot, 100):
                    await first_windows.wait()
            finished.append(number)

    queries = [asyncio.create_task(rerank(number)) for number in range(20)]
    await run_ready_tasks()
    begun = admission.windows_in_flight
    admission.end_input()
    admission.close()
    first_windows.set()
    queries.append(asyncio.create_task(rerank(20)))
    await asyncio.wait(queries)
    assert begun == with_headroom(2)
    assert finished == list(range(begun))
    assert sum(query.cancelled() for query in queries) == 21 - begun
    assert (admission.queries_in_flight, admission.windows_in_flight) == (0, 0)


async def test_the_target_follows_completion_lengths() -> None:
    admission = Admission(Capacity(10_000, 1_000_000), max_tokens=400)
    async with admission.query(1) as slot, admission.window(slot, 950):
        pass
    before = admission.target_windows_in_flight
    for _ in range(5000):
        admission.update_lengths(Completion("", "stop", 950, 2100))
    assert (before, admission.target_windows_in_flight) == (with_headroom(1000), with_headroom(500))


async def test_the_longest_query_is_admitted_first() -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed_target=1)
    order: list[int] = []

    async def run_query(max_windows: int) -> None:
        async with admission.query(max_windows):
            order.append(max_windows)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for max_windows in (3, 9, 1, 5):
            group.create_task(run_query(max_windows))
    assert order == [3, 9, 5, 1]


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=40))
async def test_cancelled_queries_release_their_slots(target: int, queries: list[tuple[int, bool]]) -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed_target=target)
    done = 0
    peak = 0

    async def run_query(max_windows: int) -> None:
        nonlocal done, peak
        async with admission.query(max_windows):
            peak = max(peak, admission.queries_in_flight)
            await asyncio.sleep(0)
            done += 1

    tasks = [(asyncio.create_task(run_query(max_windows)), cancel) for max_windows, cancel in queries]
    await asyncio.sleep(0)
    for task, cancel in tasks:
        if cancel:
            task.cancel()
    results = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert done >= sum(not cancel for _, cancel in queries)
    assert peak <= target
    assert admission.queries_in_flight == 0


async def test_the_end_of_the_input_admits_all_queries_longest_first() -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed_target=2)
    requested: list[tuple[int, int]] = []
    peak = 0

    async def run_query(query: int, windows: int) -> None:
        nonlocal peak
        async with admission.query(windows) as slot:
            for remaining in range(windows, 0, -1):
                async with admission.window(slot, 10):
                    requested.append((query, remaining))
                    peak = max(peak, admission.windows_in_flight)
                    await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for query in range(6):
            group.create_task(run_query(query, 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (admission.queries_in_flight, admission.windows_in_flight) == (2, 2)
        admission.end_input()
        assert (admission.queries_in_flight, admission.windows_in_flight) == (6, 2)
    assert peak == 2
    assert sorted(requested) == [(query, remaining) for query in range(6) for remaining in (1, 2, 3)]
    assert [remaining for _, remaining in requested[-4:]] == [1, 1, 1, 1]  # no query ends long before the others


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=20), st.integers(0, 30))
async def test_cancelled_windows_release_their_slots(
    target: int, queries: list[tuple[int, bool]], input_ends_after: int
) -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed_target=target)

    async def run_query(windows: int) -> None:
        async with admission.query(windows) as slot:
            for _ in range(windows):
                async with admission.window(slot, 10):
                    assert admission.windows_in_flight <= target
                    await asyncio.sleep(0)

    tasks = [(asyncio.create_task(run_query(windows)), cancel) for windows, cancel in queries]
    for step in range(31):
        if step == input_ends_after:
            admission.end_input()
        if step == 3:
            for task, cancel in tasks:
                if cancel:
                    task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert (admission.queries_in_flight, admission.windows_in_flight) == (0, 0)
