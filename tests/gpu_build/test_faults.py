"""An engine whose GPU fails: every request ends with a reason, and nothing is left behind."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from corpus_reranker.engines.registry import create_engine
from corpus_reranker.errors import EngineDeadError, EngineStartError
from gpu_build.engines import GREEDY, prompt, ready_made, stubbed
from gpu_build.faults import Fault, inject
from gpu_build.replies import FOREVER

WATCHDOG_SECONDS = 120.0


def running_processes() -> set[psutil.Process]:
    """Child processes of this one, without the resource tracker of multiprocessing, which stays."""
    running = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "resource_tracker" not in " ".join(child.cmdline()):
                running.add(child)
    return running


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """vLLM ends its processes with SIGTERM first, so the last of them may outlive `stop` by a moment."""
    before = running_processes()
    yield
    psutil.wait_procs(running_processes() - before, WATCHDOG_SECONDS)
    assert running_processes() <= before


async def in_flight_when(fault: Fault, engine: Any, models: Path) -> list[BaseException | Any]:
    """Results of eight endless requests, one of whose steps fails."""
    marker = inject(fault)
    endless = replace(GREEDY, max_tokens=32_000)
    requests = [engine.generate(prompt(models, f"{number}{FOREVER}"), endless) for number in range(8)]
    results = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), WATCHDOG_SECONDS)
    assert not marker.exists()
    return results


@pytest.mark.parametrize(
    ("fault", "tensor_parallel_size", "reason"),
    [
        ("out_of_memory", 1, "CUDA out of memory"),
        ("out_of_memory", 2, "CUDA out of memory"),
        ("death", 1, "killed by SIGKILL"),
        ("death", 2, "died unexpectedly"),
    ],
)
async def test_a_failed_step_ends_the_engine_with_its_reason(
    fault: Fault, tensor_parallel_size: int, reason: str, models: Path
) -> None:
    settings = stubbed(ready_made("reasonrank-7b").engine, models, tensor_parallel_size=tensor_parallel_size)
    engine = create_engine(settings)
    await engine.start()
    results = await in_flight_when(fault, engine, models)
    assert {type(result) for result in results} == {EngineDeadError}
    assert any(reason in str(result) for result in results)
    with pytest.raises(EngineDeadError):
        await engine.generate(prompt(models, "too late"), GREEDY)
    await asyncio.wait_for(engine.stop(), WATCHDOG_SECONDS)


@pytest.mark.parametrize("tensor_parallel_size", [1, 2])
async def test_a_hang_ends_the_engine_after_its_timeout(tensor_parallel_size: int, models: Path) -> None:
    settings = ready_made("reasonrank-7b", "--engine.hang_timeout_seconds=10").engine
    engine = create_engine(stubbed(settings, models, tensor_parallel_size=tensor_parallel_size))
    await engine.start()
    results = await in_flight_when("hang", engine, models)
    assert {type(result) for result in results} == {EngineDeadError}
    assert "made no progress for" in str(results[0])
    await asyncio.wait_for(engine.stop(), WATCHDOG_SECONDS)


async def test_a_hung_engine_can_be_stopped_before_its_timeout(models: Path) -> None:
    engine = create_engine(stubbed(ready_made("reasonrank-7b").engine, models))
    await engine.start()
    marker = inject("hang")
    request = asyncio.create_task(engine.generate(prompt(models, "hangs"), GREEDY))
    async with asyncio.timeout(WATCHDOG_SECONDS):
        while marker.exists():  # noqa: ASYNC110 - another process removes it
            await asyncio.sleep(0.02)
    assert not request.done()
    await asyncio.wait_for(engine.stop(), WATCHDOG_SECONDS)
    with pytest.raises(EngineDeadError):
        await request


async def test_a_start_that_fails_names_the_reason(models: Path) -> None:
    engine = create_engine(stubbed(ready_made("reasonrank-7b").engine, models, kv_cache_gib=0.5))
    with pytest.raises(EngineStartError, match="KV cache"):
        await engine.start()
    await engine.stop()
