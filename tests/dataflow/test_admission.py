"""Admission by an engine's capacity: full, never much more, and long chains first."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.dataflow.admission import Admission
from corpus_reranker.dataflow.capacity import Capacity, with_headroom
from corpus_reranker.types import Completion


async def test_it_fills_up_as_soon_as_a_prompt_tells_its_length() -> None:
    admission = Admission(Capacity(256, 1_000_000), max_tokens=4000)
    leave = asyncio.Event()

    async def hold() -> None:
        async with admission.query(9) as chain, admission.window(chain, 9500):  # and 1,000 / 2 of the answer: 100 fit
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
    async with admission.query(1) as chain, admission.window(chain, 950):
        pass
    before = admission.target
    for _ in range(5000):
        admission.answered(Completion("", "stop", 950, 2100))
    assert (before, admission.target) == (with_headroom(1000), with_headroom(500))


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


async def test_at_the_end_all_are_let_in_and_the_longest_chains_ask_first() -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed=2)
    requested: list[tuple[int, int]] = []
    most = 0

    async def ask(query: int, windows: int) -> None:
        nonlocal most
        async with admission.query(windows) as chain:
            for left in range(windows, 0, -1):
                async with admission.window(chain, 10):
                    requested.append((query, left))
                    most = max(most, admission.windows)
                    await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for query in range(6):
            group.create_task(ask(query, 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (admission.queries, admission.windows) == (2, 2)
        admission.end()
        assert (admission.queries, admission.windows) == (6, 2)
    assert most == 2
    assert sorted(requested) == [(query, left) for query in range(6) for left in (1, 2, 3)]
    assert [left for _, left in requested[-4:]] == [1, 1, 1, 1]  # no chain ends long before the others


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=20), st.integers(0, 30))
async def test_places_are_given_back_whatever_is_cancelled(
    fixed: int, queries: list[tuple[int, bool]], ends_after: int
) -> None:
    admission = Admission(Capacity(8), max_tokens=100, fixed=fixed)

    async def ask(windows: int) -> None:
        async with admission.query(windows) as chain:
            for _ in range(windows):
                async with admission.window(chain, 10):
                    assert admission.windows <= fixed
                    await asyncio.sleep(0)

    tasks = [(asyncio.create_task(ask(windows)), cancel) for windows, cancel in queries]
    for step in range(31):
        if step == ends_after:
            admission.end()
        if step == 3:
            for task, cancel in tasks:
                if cancel:
                    task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert (admission.queries, admission.windows) == (0, 0)
