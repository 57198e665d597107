"""vLLM's AsyncLLM behind `generate`, on an event loop and a thread of its own.

The thread keeps what the replica does on its loop (rendering, tokenising, parsing) from delaying vLLM's, which hands
requests to the engine core and collects its output. The model itself runs in child processes.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import re
import threading
from collections.abc import AsyncIterable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from corpus_reranker.engines.base import EngineSettings
from corpus_reranker.engines.vllm.log import VllmLog, exit_reason
from corpus_reranker.engines.vllm.process_group import guard_process_group
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError, RerankerError
from corpus_reranker.section import check_known_keys
from corpus_reranker.types import Completion, Prompt, SamplingParams

if TYPE_CHECKING:
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

T = TypeVar("T")

_GIB_BYTES = 2**30


class VllmSettings(EngineSettings):
    """Engine arguments keep vLLM's names; `engine_args` passes any other through unchanged."""

    speed_only: ClassVar[frozenset[str]] = frozenset(
        {
            "device",
            "tensor_parallel_size",
            "kv_cache_gib",
            "max_num_seqs",
            "max_num_batched_tokens",
            "gpu_memory_utilization",
            "enforce_eager",
        }
    )

    runner: ClassVar[str] = "generate"
    """vLLM's name for what the model is run for."""

    kind: Literal["vllm"] = "vllm"
    device: Literal["gpu", "cpu"] = "gpu"
    dtype: str = Field("auto", description="On a CPU float32: bfloat16 is several times slower there.")
    tensor_parallel_size: int = Field(1, ge=1)
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    kv_cache_gib: float | None = Field(
        None,
        gt=0,
        description="Memory for the KV cache; None: what gpu_memory_utilization leaves of it. "
        "On a CPU the environment's VLLM_CPU_KVCACHE_SPACE goes first.",
    )
    max_num_batched_tokens: int | None = Field(None, ge=1)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    enforce_eager: bool = False
    lora_path: str | None = None
    seed: int = 0
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def gpus_per_replica(self) -> int:
        return self.tensor_parallel_size if self.device == "gpu" else 0

    @model_validator(mode="after")
    def _one_place_for_each_argument(self) -> Self:
        duplicated = sorted(set(self.engine_kwargs) & set(type(self).model_fields))
        if duplicated:
            raise ValueError(f"engine_kwargs sets {', '.join(duplicated)}; set engine.{duplicated[0]} itself")
        return self


class VllmEngine:
    """One AsyncLLM. `facts` and `generate` want a started engine."""

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._request_ids = itertools.count()
        self._stop_requested: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._llm: AsyncLLM | None = None
        self._log: VllmLog
        self._lora: LoRARequest | None = None
        self._info: dict[str, Any] = {}

    async def start(self) -> None:
        """Load the model; a minute or many. Raises ConfigError or EngineStartError with the reason."""
        check_folder(self._settings.model, "config.json", "engine.model")
        if self._settings.lora_path:
            check_folder(self._settings.lora_path, "adapter_config.json", "engine.lora_path")
        log = VllmLog()
        started: Future[None] = Future()
        started.set_running_or_notify_cancel()  # a start that nobody waits for any more still ends in order
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(log, started)), name="vllm-engine", daemon=True
        )
        self._thread.start()
        await asyncio.wrap_future(started)

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Answer one prompt, given by its token ids. Cancelling the call aborts the request in the engine.

        Raises RequestError, for example for a prompt longer than the context, or EngineDeadError.
        """
        return await self._on_own_loop(self._ask(prompt, params))

    async def stop(self) -> None:
        """End the engine and its processes; requests still in flight end with EngineDeadError. Safe to call twice."""
        if not self._stop_requested.done():
            self._stop_requested.set_result(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def info(self) -> dict[str, Any]:
        """Name, version, simulated, model, device and capacity; `kv_cache_tokens` is None if vLLM doesn't say."""
        return dict(self._info)

    async def _on_own_loop(self, request: Coroutine[Any, Any, T]) -> T:
        if self._loop is None or self._stop_requested.done():
            request.close()
            raise EngineDeadError("the vLLM engine is not running")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(request, self._loop))

    async def _serve(self, log: VllmLog, started: "Future[None]") -> None:
        """All of the engine's life on its own loop, from loading until `stop`."""
        self._loop = asyncio.get_running_loop()
        guard = guard_process_group()
        llm = None
        try:
            llm = self._load(log)
            await self._prepare(llm)
        except (Exception, SystemExit) as error:  # whatever vLLM raises, the replica does not start
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
                llm.shutdown()
                llm.shutdown = lambda: None  # its __del__ would do it again, and fail noisily as the interpreter ends
            if guard is not None:
                guard.kill()
                guard.communicate()

    def _load(self, log: VllmLog) -> "AsyncLLM":
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # forking a process with threads can deadlock
        with _environment("VLLM_LOGGING_CONFIG_PATH", log.configuration()):
            from vllm.v1.engine.async_llm import AsyncLLM

            check_device(self._settings.device)
            return AsyncLLM.from_engine_args(engine_arguments(self._settings))

    async def _prepare(self, llm: "AsyncLLM") -> None:
        """What the first request would otherwise do, and wait for ever if the engine core died meanwhile."""
        await llm.get_supported_tasks()
        self._info = _info(self._settings, llm)
        if self._settings.lora_path:
            from vllm.lora.request import LoRARequest

            self._lora = LoRARequest("adapter", 1, self._settings.lora_path)
            await llm.add_lora(self._lora)

    async def _ask(self, prompt: Prompt, params: SamplingParams) -> Completion:
        from vllm import TokensPrompt

        llm = self._running()
        request = TokensPrompt(prompt_token_ids=list(prompt.token_ids))
        answers = llm.generate(
            request, sampling_params(params, prompt.choices), self._request_id(), lora_request=self._lora
        )
        return completion(await self._final(llm, answers), prompt.choices)

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
            if self._stop_requested.done():  # not the caller's doing
                raise EngineDeadError("the vLLM engine was stopped") from None
            raise
        except Exception as error:  # only a dead engine is the replica's end; what failed alone may be asked again
            if llm.errored:
                reason = _failure(self._log, error, _exit_codes(llm))
                raise EngineDeadError(f"vLLM's engine is dead: {reason}") from error
            cause = error.__cause__ or error  # AsyncLLM wraps what it did not expect in a bare EngineGenerateError
            raise RequestError(f"{type(cause).__name__}: {cause}") from error

    def _start_error(self, error: BaseException, log: VllmLog) -> RerankerError:
        if isinstance(error, RerankerError):
            return error
        exit_codes = [int(code) for code in re.findall(r"'\w+': (-?\d+)", str(error))]
        reason = _failure(log, error, exit_codes)
        return EngineStartError(f"vLLM does not start with model {self._settings.model}: {reason}")


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
        "kv_cache_tokens": getattr(config.cache_config, "kv_cache_size_tokens", None),
    }


def check_folder(path: str, file: str, key: str) -> None:
    """Raise ConfigError unless `path` is a folder that holds `file`, a hub id or a URL. `key` is its config key."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / file).is_file():
            raise ConfigError(f"{key}: {path} has no {file}; it must be a folder in the layout of the Hugging Face hub")
    elif "://" not in path and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path):
        raise ConfigError(f"{key}: no folder {path} on this node")


def check_device(device: str) -> None:
    """Raise ConfigError unless vLLM as installed here drives `device`, and a GPU is visible if it should be."""
    from vllm.platforms import current_platform

    if device == "cpu" and not current_platform.is_cpu():
        raise ConfigError("engine.device is cpu, but vLLM here is a GPU build; install the extra cpu")
    if device == "gpu" and current_platform.is_cpu():
        raise ConfigError(
            "engine.device is gpu, but vLLM here is the CPU build; install the extra gpu, or set device: cpu"
        )
    if device == "gpu" and current_platform.is_unspecified():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise EngineStartError(f"engine.device is gpu, but vLLM finds no GPU here (CUDA_VISIBLE_DEVICES: {visible})")


def engine_arguments(settings: VllmSettings) -> "AsyncEngineArgs":
    """vLLM's own arguments for these settings. Raises ConfigError naming engine_args that this vLLM doesn't have."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    try:
        check_known_keys(settings.engine_kwargs, [field.name for field in dataclasses.fields(AsyncEngineArgs)])
    except ValueError as error:
        raise ConfigError(f"engine.engine_kwargs: {error}") from error
    arguments: dict[str, Any] = {
        "model": settings.model,
        "runner": settings.runner,
        "max_model_len": settings.max_model_len,
        "trust_remote_code": settings.trust_remote_code,
        "dtype": settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "quantization": settings.quantization,
        "kv_cache_dtype": settings.kv_cache_dtype,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enforce_eager": settings.enforce_eager,
        "enable_lora": settings.lora_path is not None,
        "seed": settings.seed,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.tokenizer not in (None, "words"):
        arguments["tokenizer"] = settings.tokenizer
    if settings.kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * _GIB_BYTES)
    return AsyncEngineArgs(**arguments | settings.engine_kwargs)


def sampling_params(params: SamplingParams, choices: Sequence[int] = ()) -> "VllmSamplingParams":
    """Ask for the final output alone. Stop strings stay in the text, so that an answer section is closed.

    Of `choices` the log-probabilities are asked for as well.
    """
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return VllmSamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        max_tokens=params.max_tokens,
        seed=params.seed if params.temperature > 0 else None,  # a seeded request is sampled on its own, slower
        stop=list(params.stop),
        include_stop_str_in_output=True,
        logprob_token_ids=list(choices) or None,
        structured_outputs=StructuredOutputsParams(regex=params.regex) if params.regex else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion(final: "RequestOutput", choices: Sequence[int] = ()) -> Completion:
    """Raises RequestError if the engine ended the request before it had an answer."""
    answer = final.outputs[0]
    if answer.finish_reason not in ("stop", "length", "repetition"):
        raise RequestError(f"vLLM ended the request early: {answer.finish_reason}")
    # vLLM's "repetition" is a cut like that of max_tokens: there is no answer to wait for.
    finish_reason = "stop" if answer.finish_reason == "stop" else "length"
    first = answer.logprobs[0] if answer.logprobs else {}
    logprobs = tuple(first[token_id].logprob for token_id in choices if token_id in first)
    return Completion(answer.text, finish_reason, len(final.prompt_token_ids or ()), len(answer.token_ids), logprobs)


def _exit_codes(llm: "AsyncLLM") -> list[int]:
    """Of the engine's child processes that ended; empty if this vLLM keeps them elsewhere."""
    manager = getattr(getattr(llm.engine_core, "resources", None), "engine_manager", None)
    return [process.exitcode for process in getattr(manager, "processes", ()) if process.exitcode]


def _failure(log: VllmLog, error: BaseException, exit_codes: Sequence[int]) -> str:
    """The most telling of what the child processes logged, what the parent raised, and how the children ended."""
    if logged := log.reason():
        reason = logged
    elif isinstance(error, ValidationError):
        reason = "; ".join(_validation_message(problem) for problem in error.errors())
    elif exit_codes:
        reason = f"its engine core was {exit_reason(exit_codes[0])}"
    else:
        reason = f"{type(error).__name__}: {error}"
    if not log.has_records():
        log.discard()
        return reason
    return f"{reason}\n(log of vLLM's errors: {log.path})"


def _validation_message(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return ".".join(str(part) for part in problem["loc"]) + (": " if problem["loc"] else "") + message


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for child processes started meanwhile, unless whoever runs the job has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
