"""An engine without progress for the timeout counts as dead; no other engine does."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from corpus_reranker.engines.base import Engine
from corpus_reranker.engines.hang_watch import HangWatch
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.engines.scripted import ScriptedSettings
from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.types import Prompt, SamplingParams

PARAMS = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=100, seed=0)


async def never() -> str:
    await asyncio.get_running_loop().create_future()
    return "unreachable"


@asynccontextmanager
async def in_flight(watch: HangWatch, requests: int) -> AsyncIterator[list["asyncio.Task[str]"]]:
    tasks = [asyncio.create_task(watch.run(never())) for _ in range(requests)]
    await asyncio.sleep(0)  # each task has entered the watch
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_all_requests_fail_after_the_timeout_without_progress() -> None:
    watch = HangWatch(600, lambda: 0)
    async with in_flight(watch, 3) as tasks:
        watch.tick(599)
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        watch.tick(1)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [
        "the engine made no progress for 600 s with 3 requests in flight"
    ] * 3
    assert all(isinstance(outcome, EngineDeadError) for outcome in outcomes)
    with pytest.raises(EngineDeadError, match="no progress"):
        await watch.run(never())


async def test_progress_of_any_request_resets_the_timeout() -> None:
    steps = 0
    watch = HangWatch(600, lambda: steps)
    async with in_flight(watch, 2) as tasks:
        for steps in range(1, 10):  # noqa: B007 - read by the watch
            watch.tick(500)
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)


async def test_a_finished_or_failed_request_counts_as_progress() -> None:
    async def fails() -> str:
        raise RequestError("no")

    watch = HangWatch(600, lambda: 0)
    async with in_flight(watch, 1) as (task,):
        for _ in range(3):
            watch.tick(500)
            with pytest.raises(RequestError):
                await watch.run(fails())
            watch.tick(500)
        await asyncio.sleep(0)
        assert not task.done()


async def test_an_idle_engine_does_not_hang() -> None:
    watch = HangWatch(600, lambda: 0)
    for _ in range(5):
        watch.tick(500)
    async with in_flight(watch, 1) as (task,):
        watch.tick(500)
        await asyncio.sleep(0)
        assert not task.done()


async def test_cancelling_a_request_cancels_it_in_the_engine() -> None:
    cancelled = threading.Event()

    async def request() -> str:
        try:
            return await never()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    watch = HangWatch(600, lambda: 0)
    call = asyncio.create_task(watch.run(request()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert cancelled.is_set()


def scripted(**settings: Any) -> Engine:
    return create_engine(ScriptedSettings(**settings))


def prompt(text: str) -> Prompt:
    return Prompt(f"[1] {text}", (0,))


async def test_a_hung_engine_fails_every_request() -> None:
    engine = scripted(hang={"stuck": 2}, hang_timeout_seconds=2)
    await engine.start()
    try:
        assert (await engine.generate(prompt("stuck"), PARAMS)).finish_reason == "stop"
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(
                *(engine.generate(prompt(text), PARAMS) for text in ("stuck", "other")), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [EngineDeadError, EngineDeadError]
            with pytest.raises(EngineDeadError):
                await engine.generate(prompt("late"), PARAMS)
    finally:
        await engine.stop()
        await engine.stop()
