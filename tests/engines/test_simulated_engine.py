"""The simulated engine on a real event loop, measured in simulated time."""

import asyncio
import selectors
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from corpus_reranker.answers.registry import create_answer_parser
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.engines.simulated import SimulatedEngine, SimulatedSettings
from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.types import Completion, Prompt, SamplingParams

PARAMS = SamplingParams(temperature=0.6, top_p=1.0, top_k=0, min_p=0.0, max_tokens=30_000, seed=1)


def window(number: int, num_passages: int = 20, prompt_tokens: int = 5690) -> Prompt:
    lines = "\n".join(f"[{position}] passage {position} of {number}" for position in range(1, num_passages + 1))
    return Prompt(f"Rank these.\n{lines}\nSearch Query: what is {number}", (0,) * prompt_tokens)


@asynccontextmanager
async def simulated(**settings: Any) -> AsyncIterator[SimulatedEngine]:
    engine = SimulatedEngine(SimulatedSettings(**{"speedup": 1000.0, **settings}))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        await engine.stop()


async def all_windows(engine: SimulatedEngine, count: int, params: SamplingParams = PARAMS) -> list[Completion]:
    return await asyncio.gather(*(engine.generate(window(number), params) for number in range(count)))


async def test_throughput_agrees_with_the_cost_model() -> None:
    async with simulated(output_tokens_mean=750, output_tokens_p99=750, kv_cache_tokens=10**9, max_num_seqs=64) as it:
        await all_windows(it, 512)
        info = it.info()
    # In a steady state, a window takes its prompt tokens at the prefill rate and 1/64 of a decode step for each of
    # its 750 output tokens. 512 windows include ramp-up and ramp-down, hence 0.9.
    window_seconds = 5690 / 30_000 + 750 * (0.006 + 64 * 0.00014) / 64
    assert info["simulated_seconds"] > 0.9 * 512 * window_seconds  # more on a busy machine
    assert info["peak_running"] == 64
    assert info["output_tokens"] == 512 * 750
    assert info["simulated"] is True
    assert info["in_flight"] == 0


def test_the_simulated_engine_runs_on_uvloop() -> None:
    """Replicas run on uvloop, whose handle of a timer that is due at once has no time."""
    uvloop = pytest.importorskip("uvloop")

    async def run() -> list[Completion]:
        async with simulated(speedup=1e9) as engine:
            return await all_windows(engine, 200)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert len(runner.run(run())) == 200


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock advances to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_InstantSelector(self.advance))

    def time(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += seconds


class _InstantSelector(selectors.DefaultSelector):
    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._advance(timeout or 0.0)
        return super().select(0)


def test_averages_show_saturation() -> None:
    async def averages() -> tuple[dict[str, Any], dict[str, Any]]:
        settings = {"max_num_seqs": 8, "output_tokens_p99": 750}
        async with simulated(**settings) as sequential, simulated(**settings) as concurrent:
            for number in range(20):  # one at a time
                await sequential.generate(window(number), PARAMS)
            await all_windows(concurrent, 40)
            return sequential.info(), concurrent.info()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        sequential, concurrent = runner.run(averages())
    assert sequential["mean_running"] == pytest.approx(1.0, rel=0.01)
    assert concurrent["mean_running"] > 7
    assert concurrent["mean_waiting"] > 1


async def test_lengths_follow_the_lognormal_distribution() -> None:
    async with simulated(speedup=1e7) as it:
        lengths = [completion.output_tokens for completion in await all_windows(it, 4000)]
    assert statistics.fmean(lengths) == pytest.approx(750, rel=0.05)
    assert statistics.quantiles(lengths, n=100)[98] == pytest.approx(3000, rel=0.15)


async def test_response_and_length_depend_on_prompt_and_seeds_alone() -> None:
    async with simulated(speedup=1e5) as concurrent, simulated(speedup=1e6, max_num_seqs=1) as sequential:
        together = await all_windows(concurrent, 30)
        assert [await sequential.generate(window(number), PARAMS) for number in range(30)] == together
        other_seed = await all_windows(concurrent, 30, replace(PARAMS, seed=2))
    async with simulated(speedup=1e5, seed=1) as reseeded:
        assert await all_windows(reseeded, 30) != together
    assert len({completion.text for completion in together}) == 30
    assert all(first != second for first, second in zip(together, other_seed, strict=True))


@pytest.mark.parametrize("answer_format", ["reasoning", "plain"])
@pytest.mark.parametrize("num_passages", [2, 20])
async def test_responses_are_complete_permutations(answer_format: str, num_passages: int) -> None:
    async with simulated(answer_format=answer_format, speedup=1e6) as it:
        completion = await it.generate(window(0, num_passages), PARAMS)
    assert create_answer_parser(answer_format).parse(completion, num_passages).status == "complete"
    assert completion.finish_reason == "stop"
    assert completion.prompt_tokens == 5690


@pytest.mark.parametrize("answer_format", ["reasoning", "plain"])
async def test_an_output_longer_than_max_tokens_has_no_answer(answer_format: str) -> None:
    async with simulated(answer_format=answer_format, speedup=1e6) as it:
        completion = await it.generate(window(0), replace(PARAMS, max_tokens=5))
    assert (completion.finish_reason, completion.output_tokens) == ("length", 5)
    assert create_answer_parser(answer_format).parse(completion, 20).status == "truncated"


async def test_a_cap_limits_lengths_without_truncating_answers() -> None:
    async with simulated(output_tokens_cap=100, speedup=1e6) as it:
        completions = await all_windows(it, 50)
    assert max(completion.output_tokens for completion in completions) == 100
    assert {completion.finish_reason for completion in completions} == {"stop"}


async def test_a_prompt_that_cannot_fit_fails_alone() -> None:
    async with simulated(max_model_len=6000, kv_cache_tokens=5700, speedup=1e6) as it:
        with pytest.raises(RequestError, match="context of 6000"):
            await it.generate(window(0, prompt_tokens=6000), PARAMS)
        with pytest.raises(RequestError, match="KV cache of 5700"):
            await it.generate(window(0, prompt_tokens=5699), replace(PARAMS, max_tokens=20))
        assert (await it.generate(window(0, prompt_tokens=100), PARAMS)).finish_reason == "stop"


async def test_cancelling_frees_the_slot() -> None:
    async with simulated(max_num_seqs=1, speedup=1.0) as it:  # no request finishes by itself
        first = asyncio.create_task(it.generate(window(0), PARAMS))
        waiting = asyncio.create_task(it.generate(window(1), PARAMS))
        last = asyncio.create_task(it.generate(window(2, prompt_tokens=10), replace(PARAMS, max_tokens=1)))
        await asyncio.sleep(0)
        assert it.info()["in_flight"] == 3
        first.cancel()
        waiting.cancel()
        assert (await last).output_tokens == 1
        assert it.info()["in_flight"] == 0
        assert first.cancelled()
        assert waiting.cancelled()


async def test_stopping_fails_requests_in_flight() -> None:
    async with simulated(speedup=1.0) as it:
        call = asyncio.create_task(it.generate(window(0), PARAMS))
        await asyncio.sleep(0)
    with pytest.raises(EngineDeadError):
        await call
    with pytest.raises(EngineDeadError):
        await it.generate(window(0), PARAMS)


def test_impossible_lengths_are_refused() -> None:
    for p99 in (700, 12_000):
        with pytest.raises(ValidationError, match=r"output_tokens_p99 must be from 1 to 15\.0 times"):
            SimulatedSettings(output_tokens_mean=750, output_tokens_p99=p99)
    settings = SimulatedSettings(output_tokens_mean=750, output_tokens_p99=750)
    assert settings.output_tokens_sigma == pytest.approx(0.0, abs=1e-9)


def test_the_registry_creates_the_simulated_engine() -> None:
    settings = SimulatedSettings()
    created: Any = create_engine(settings)
    assert isinstance(created.engine, SimulatedEngine)
    assert settings.simulated
    assert settings.gpus_per_replica == 0
    assert "speedup" not in settings.fingerprint_fields()
    assert settings.fingerprint_fields()["output_tokens_mean"] == 750


def test_the_engine_tolerates_timers_that_fire_early() -> None:
    """uvloop rounds timers to milliseconds, up or down."""
    uvloop = pytest.importorskip("uvloop")

    async def generate() -> list[Completion]:
        async with simulated(speedup=1.0, step_seconds=0.0003, prefill_tokens_per_second=1e9) as it:
            return [await asyncio.wait_for(it.generate(window(number), PARAMS), 60) for number in range(5)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert len(runner.run(generate())) == 5
