"""The event loop of the vLLM engine, with a fake AsyncLLM."""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from corpus_reranker.engines.vllm import compat
from corpus_reranker.engines.vllm import engine as engine_module
from corpus_reranker.engines.vllm.engine import VllmEngine
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import EngineDeadError
from corpus_reranker.types import Completion, Prompt, SamplingParams

PARAMS = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=10, seed=0)


class BusyEngine(VllmEngine):
    """An engine whose requests never finish."""

    def _fetch_files(self) -> None:
        pass

    def _load(self, log: object) -> SimpleNamespace:
        return SimpleNamespace(errored=False)

    async def _prepare(self, llm: object) -> None:
        self.requested = threading.Event()

    async def _generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requested.set()
        return await self._final(self._running(), _endless())


async def _endless() -> AsyncIterator[Completion]:
    await asyncio.Event().wait()
    yield Completion("", "stop", 0, 0)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_stop_fails_the_requests_in_flight_and_logs_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cancelled: bool
) -> None:
    monkeypatch.setattr(compat, "shut_down", lambda llm: None)
    monkeypatch.setattr(engine_module, "guard_process_group", lambda: None)
    engine = BusyEngine(VllmSettings(kind="vllm", model="any", device="cpu"))
    await engine.start()
    request = asyncio.create_task(engine.generate(Prompt("", ()), PARAMS))
    assert await asyncio.to_thread(engine.requested.wait, 30)
    stop = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)
    if cancelled:
        request.cancel()
    await stop
    with pytest.raises((EngineDeadError, asyncio.CancelledError)):
        await request
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
