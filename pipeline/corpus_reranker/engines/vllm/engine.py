"""vLLM's AsyncLLM behind `generate`, on a separate thread and event loop.

Work on the replica's event loop (rendering, tokenizing, parsing) then cannot delay vLLM's loop, which sends requests to
the engine core and collects its output. The model itself runs in child processes.
"""

import asyncio
import itertools
import sys
import threading
from collections.abc import AsyncIterable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.engines.model_files import check_model, local_source
from corpus_reranker.engines.vllm import compat
from corpus_reranker.engines.vllm.log import VllmLog, failure_reason
from corpus_reranker.engines.vllm.process_group import guard_process_group
from corpus_reranker.engines.vllm.sampling import completion, sampling_params
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import EngineDeadError, EngineStartError, RequestError, RerankerError
from corpus_reranker.prompts.tokenizer import WORDS, load_tokenizer
from corpus_reranker.types import Completion, Prompt, SamplingParams

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

    from corpus_reranker.engines.vllm.compat import AsyncLLM

T = TypeVar("T")

_REASONING_MARKERS = {"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}
"""vLLM's names. The end marker does not include the beginning of the answer: vLLM's V1 model runner looks only for the
marker (vllm/v1/sample/thinking_budget_state.py), so it would miss a </think> that the model writes itself."""

_STOP_SECONDS = 60.0
"""How long `stop` waits for the engine's thread. The guard of the process group ends a thread that hangs."""


class VllmEngine:
    """One AsyncLLM. `generate` needs a started engine."""

    settings_class: ClassVar[type[EngineSettings]] = VllmSettings

    def __init__(self, settings: VllmSettings, context: EngineContext | None = None) -> None:
        self._settings = settings
        self._context = context or EngineContext()
        self._request_ids = itertools.count()
        self._stop_requested: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._llm: AsyncLLM | None = None
        self._model = settings.model
        self._tokenizer: str | None = None
        self._lora_path: str | None = None
        self._log: VllmLog
        self._lora: LoRARequest | None = None
        self._reasoning_token_ids: tuple[int, int] | None = None
        self._steps = 0
        self._info: dict[str, Any] = {}

    @property
    def capabilities(self) -> EngineCapabilities:
        return replace(self._settings.capabilities, reasoning_budget=self._reasoning_token_ids is not None)

    async def start(self) -> None:
        """Load the model. This takes minutes. Raises ConfigError or EngineStartError with the reason."""
        await asyncio.to_thread(self._fetch_files)
        log = VllmLog()
        started: Future[None] = Future()
        started.set_running_or_notify_cancel()  # a cancelled start still shuts down cleanly
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(log, started)), name="vllm-engine", daemon=True
        )
        self._thread.start()
        await asyncio.wrap_future(started)

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Answer one prompt, given by its token ids. Cancelling the call aborts the request in the engine.

        Raises:
            RequestError: This request failed, for example with a prompt longer than the context.
            EngineDeadError: The engine is not running, or died.
        """
        return await self._on_own_loop(self._generate(prompt, params))

    def progress(self) -> int:
        """Steps of the engine core that sent output, since the start."""
        return self._steps

    async def stop(self) -> None:
        """End the engine and its processes; requests in flight end with EngineDeadError. Safe to call twice."""
        if not self._stop_requested.done():
            self._stop_requested.set_result(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def info(self) -> dict[str, Any]:
        """Name, version, model, device and capacity. `kv_cache_tokens` is None if vLLM does not report it."""
        return dict(self._info)

    async def _on_own_loop(self, request: Coroutine[Any, Any, T]) -> T:
        if self._loop is None or self._stop_requested.done():
            request.close()
            raise EngineDeadError("the vLLM engine is not running")
        answer = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_caught(request), self._loop))
        if isinstance(answer, RerankerError):
            raise answer
        return answer

    def _fetch_files(self) -> None:
        """Check that the model's files exist, and download them if necessary."""
        settings, storage = self._settings, self._context.storage
        check_model(settings.model, "config.json", "engine.model", storage)
        if settings.lora_path:
            check_model(settings.lora_path, "adapter_config.json", "engine.lora_path", storage)
            self._lora_path = local_source(settings.lora_path, storage, settings.download_dir)
        self._model = local_source(settings.model, storage, settings.download_dir)
        if settings.tokenizer not in (None, WORDS):
            self._tokenizer = local_source(settings.tokenizer, storage, settings.download_dir, weights=False)

    async def _serve(self, log: VllmLog, started: "Future[None]") -> None:
        """Load the engine on its own event loop, and keep it running until `stop`."""
        self._loop = asyncio.get_running_loop()
        guard = guard_process_group()
        llm = None
        try:
            llm = self._load(log)
            await self._prepare(llm)
        except (Exception, SystemExit) as error:  # vLLM raises many kinds of errors; none may be lost
            started.set_exception(self._start_error(error, log))
        else:
            self._llm, self._log = llm, log
            started.set_result(None)
            await asyncio.wrap_future(self._stop_requested)
            if not llm.errored:
                log.discard()
        finally:
            self._llm = None
            if llm is not None:
                compat.shut_down(llm)
            if guard is not None:
                guard.kill()
                guard.communicate()

    def _load(self, log: VllmLog) -> "AsyncLLM":
        compat.set_environment(deterministic=self._settings.deterministic)
        with log.in_environment():
            compat.check_device(self._settings.device)
            if self._settings.deterministic:
                compat.check_deterministic()
            if self._settings.device == "gpu":
                compat.check_visible_gpus(_assigned_gpus())
            arguments = compat.engine_args(self._settings, self._model, self._tokenizer)
            if self._wants_reasoning_budget() and compat.supports_reasoning_budget():
                arguments.reasoning_config = compat.reasoning_config(_REASONING_MARKERS)
            return compat.create_llm(arguments)

    def _wants_reasoning_budget(self) -> bool:
        """Whether the config closes reasoning, and the markers are single tokens of the model.

        Qwen3 has such tokens. Qwen2.5 writes <think> as several tokens, which vLLM would not find; a second request
        closes its reasoning (answers/continuation.py).
        """
        settings = self._settings
        if (
            not self._context.close_reasoning
            or settings.runner != "generate"
            or "reasoning_config" in settings.engine_kwargs
        ):
            return False
        tokenizer = load_tokenizer(self._tokenizer or self._model, settings.trust_remote_code)
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        return added.issuperset(_REASONING_MARKERS.values())

    async def _prepare(self, llm: "AsyncLLM") -> None:
        """Initialize what the first request would initialize: it would hang if the engine core had died by then."""
        await llm.get_supported_tasks()
        self._info = _info(self._settings, llm)
        self._reasoning_token_ids = compat.reasoning_token_ids(llm)
        compat.on_engine_output(llm, self._count_step)
        if self._lora_path:
            from vllm.lora.request import LoRARequest

            self._lora = LoRARequest("adapter", 1, self._lora_path)
            await llm.add_lora(self._lora)

    def _count_step(self) -> None:
        self._steps += 1

    async def _generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        from vllm import TokensPrompt

        llm = self._running()
        request = TokensPrompt(prompt_token_ids=list(prompt.token_ids))
        outputs = llm.generate(
            request, sampling_params(params, prompt.choices), self._request_id(), lora_request=self._lora
        )
        return completion(
            await self._final(llm, outputs), prompt.choices, self._reasoning_token_ids, params.max_reasoning_tokens
        )

    def _running(self) -> "AsyncLLM":
        if self._llm is None:
            raise EngineDeadError("the vLLM engine is not running")
        return self._llm

    def _request_id(self) -> str:
        return str(next(self._request_ids))

    async def _final(self, llm: "AsyncLLM", outputs: AsyncIterable[T]) -> T:
        """The last output of one request. Raises RequestError or EngineDeadError."""
        try:
            async for output in outputs:
                final = output
            return final
        except asyncio.CancelledError:
            if self._stop_requested.done():  # the engine's stop, not the caller, cancelled the request
                raise EngineDeadError("the vLLM engine was stopped") from None
            raise
        except Exception as error:  # only a dead engine ends the replica; any other failed request may be retried
            if llm.errored:
                reason = failure_reason(self._log, error, compat.exit_codes(llm))
                raise EngineDeadError(f"vLLM's engine is dead: {reason}") from error
            cause = error.__cause__ or error  # AsyncLLM hides unexpected errors in an empty EngineGenerateError
            raise RequestError(f"{type(cause).__name__}: {cause}") from error

    def _start_error(self, error: BaseException, log: VllmLog) -> RerankerError:
        if isinstance(error, RerankerError):
            return error
        reason = failure_reason(log, error, compat.exit_codes_of_failed_start(error))
        return EngineStartError(f"vLLM does not start with model {self._settings.model}: {reason}")


async def _caught(request: Coroutine[Any, Any, T]) -> T | RerankerError:
    """Return an error instead of raising it: asyncio logs the errors of tasks that it cancels when the loop ends."""
    try:
        return await request
    except RerankerError as error:
        return error


def _info(settings: VllmSettings, llm: "AsyncLLM") -> dict[str, Any]:
    import vllm
    from vllm.platforms import current_platform

    config = llm.vllm_config
    return {
        "engine": "vllm",
        "engine_version": vllm.__version__,
        "simulated": False,
        "model": settings.model,
        "device": settings.device,
        "device_name": current_platform.get_device_name(),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "deterministic": compat.is_deterministic(),
        **compat.kv_cache_info(llm),
    }


def _assigned_gpus() -> list[str]:
    """Ids of the GPUs that Ray assigned to this actor; none outside Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return []
    return [str(device) for device in ray.get_runtime_context().get_accelerator_ids().get("GPU", ())]
