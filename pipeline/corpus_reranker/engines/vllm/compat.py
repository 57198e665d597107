"""All uses of vLLM APIs that are private or depend on its version, behind feature checks that log what is missing.

Bounds: vllm >= 0.24, < 0.34 (pyproject.toml). docs/gpu.md says why.
"""

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from corpus_reranker.errors import ConfigError, EngineStartError
from corpus_reranker.section import check_known_keys

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM as AsyncLLM

    from corpus_reranker.engines.vllm.settings import VllmSettings

_log = logging.getLogger(__name__)

_GIB_BYTES = 2**30

_PROCESS_END_SECONDS = 10.0
"""Timeout of the wait for the end of a child process. The kernel may first have to free its GPU memory."""

_NOSET_VARIABLE = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
"""ray/_private/accelerators/nvidia_gpu.py, 2.60: if set, Ray does not set CUDA_VISIBLE_DEVICES for a worker."""


_BATCH_INVARIANT = "VLLM_BATCH_INVARIANT"


def set_environment(*, deterministic: bool = False) -> None:
    """Set vLLM's environment variables for this process and its children. Call it before vllm is imported.

    With `deterministic`, vLLM uses its batch-invariant kernels.

    VLLM_WORKER_MULTIPROC_METHOD and VLLM_USE_FLASHINFER_SAMPLER keep a value that is already set. VLLM_CACHE_ROOT and
    TRITON_CACHE_DIR are left to the deployment, which knows which volume outlives a replica.
    """
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    if deterministic:
        os.environ[_BATCH_INVARIANT] = "1"
    # Forking a process that has threads can deadlock.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    # FlashInfer's top-p/top-k sampler is compiled at the first start, which needs nvcc and ninja on every GPU node.
    # Our requests never use it: they are greedy or seeded, and vLLM samples those with its own kernels.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")


def check_device(device: str) -> None:
    """Raise ConfigError unless the installed vLLM supports `device`, EngineStartError if no GPU is visible."""
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


def is_deterministic() -> bool:
    """Whether this process uses vLLM's batch-invariant kernels."""
    from vllm import envs

    return bool(getattr(envs, _BATCH_INVARIANT, False))


def check_deterministic() -> None:
    """Raise ConfigError if the installed vLLM has no batch-invariant kernels."""
    import vllm

    if not is_deterministic():
        raise ConfigError(
            f"engine.deterministic is set, but vLLM {vllm.__version__} has no {_BATCH_INVARIANT}; set it to false"
        )


def check_visible_gpus(assigned: list[str]) -> None:
    """Raise EngineStartError if this process sees GPUs other than those that Ray has assigned to it.

    Without this check, every replica of a node could load its model on GPU 0.

    Args:
        assigned: Ids of the GPUs that Ray assigned to this actor; empty outside Ray, and on a CPU.
    """
    if os.environ.get(_NOSET_VARIABLE, "").lower() not in ("1", "true"):
        return
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    if assigned and visible != assigned:
        raise EngineStartError(
            f"{_NOSET_VARIABLE} is set, so this replica sees {'GPUs ' + ','.join(visible) if visible else 'all GPUs'}"
            f" instead of its own ({','.join(assigned)}); unset the variable on every node before Ray starts there"
        )


def engine_args(settings: "VllmSettings", model: str, tokenizer: str | None) -> "AsyncEngineArgs":
    """vLLM's own arguments for these settings.

    Args:
        settings: The engine's section of the config.
        model: Folder or hub id of the model on this node.
        tokenizer: Folder or hub id of the tokenizer; None: that of the model.

    Raises:
        ConfigError: `engine_kwargs` has a name that this vLLM does not know.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    try:
        check_known_keys(settings.engine_kwargs, [field.name for field in dataclasses.fields(AsyncEngineArgs)])
    except ValueError as error:
        raise ConfigError(f"engine.engine_kwargs: {error}") from error
    arguments: dict[str, Any] = {
        "model": model,
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
    if tokenizer is not None:
        arguments["tokenizer"] = tokenizer
    if settings.download_dir is not None:
        arguments["download_dir"] = settings.download_dir
    if settings.kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * _GIB_BYTES)
    if settings.device == "cpu":
        # A split prefill of a request with a seed kills the engine core: torch's CPU generators have no offset
        # (vLLM 0.32, gpu_model_runner.py).
        arguments["enable_chunked_prefill"] = False
    arguments |= settings.engine_kwargs
    if isinstance(markers := arguments.get("reasoning_config"), Mapping):
        arguments["reasoning_config"] = reasoning_config(markers)
    return AsyncEngineArgs(**arguments)


def create_llm(arguments: "AsyncEngineArgs") -> "AsyncLLM":
    """Start vLLM's asynchronous engine. This takes minutes."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments)


def supports_reasoning_budget() -> bool:
    """Whether this vLLM can close open reasoning, with either of its model runners.

    Both support SamplingParams.thinking_token_budget since the version whose ReasoningConfig distinguishes the natural
    end of reasoning from a forced one. In older versions, the V2 runner rejects it
    (vllm/v1/engine/input_processor.py, 0.24).
    """
    try:
        from vllm.config.reasoning import ReasoningConfig
    except ImportError:
        ReasoningConfig = None
    if not hasattr(ReasoningConfig, "natural_reasoning_end_token_ids"):
        _missing("ReasoningConfig.natural_reasoning_end_token_ids", "reasoning is closed by a second request")
        return False
    return True


def reasoning_config(markers: Mapping[str, str]) -> Any:
    """Create vLLM's ReasoningConfig from `reasoning_start_str`, `reasoning_end_str` and its other fields."""
    from vllm.config.reasoning import ReasoningConfig

    return ReasoningConfig(**markers)


def reasoning_token_ids(llm: "AsyncLLM") -> tuple[int, int] | None:
    """The tokens that open and close reasoning, if this engine has a reasoning budget and each is one token.

    A marker of several tokens merges with the text around it ("<think>" and a newline), so that vLLM would miss it.
    """
    config = getattr(llm.vllm_config, "reasoning_config", None)
    start: list[int] = getattr(config, "reasoning_start_token_ids", None) or []
    end: list[int] = getattr(config, "reasoning_end_token_ids", None) or []
    if not getattr(config, "enabled", False) or len(start) != 1 or len(end) != 1:
        return None
    return start[0], end[0]


def kv_cache_info(llm: "AsyncLLM") -> dict[str, Any]:
    """Capacity of the KV cache, for `Engine.info`.

    vLLM reports how many requests of max_model_len tokens the cache holds, and that number times max_model_len as its
    size. A layer with a sliding window keeps only the end of a long request, so this size is several times too high for
    short requests. The useful size is the number of tokens that fit into an average layer.

    Returns:
        kv_cache_tokens: The useful size; None if vLLM reports none. sliding_layers_fraction and sliding_window_tokens:
        the fraction of layers with a sliding window, and its length.
    """
    config = llm.vllm_config
    concurrency = getattr(config.cache_config, "kv_cache_max_concurrency", None)
    if concurrency is None:
        _missing("cache_config.kv_cache_max_concurrency", "the engine's capacity is max_num_seqs alone")
        return {"kv_cache_tokens": getattr(config.cache_config, "kv_cache_size_tokens", None)}
    fraction, window_tokens = _sliding_layers(config)
    max_model_len = config.model_config.max_model_len
    # SlidingWindowSpec.max_memory_usage_bytes, vllm/v1/kv_cache_interface.py: the window and the tokens of a step.
    step_tokens = getattr(config, "max_in_flight_tokens", config.scheduler_config.max_num_batched_tokens)
    in_sliding_layers = min(max_model_len, window_tokens - 1 + step_tokens)
    average_tokens = max_model_len + fraction * (in_sliding_layers - max_model_len)
    return {
        "kv_cache_tokens": int(concurrency * average_tokens),
        "sliding_layers_fraction": fraction,
        "sliding_window_tokens": window_tokens,
    }


def _sliding_layers(config: Any) -> tuple[float, int]:
    """Fraction of the layers that have a sliding window, and its length in tokens."""
    if window_tokens := getattr(config.cache_config, "sliding_window", None):
        return 1.0, int(window_tokens)  # set only if every layer of the model has one
    hf_config = config.model_config.hf_text_config
    layer_types = getattr(hf_config, "layer_types", None) or ()
    sliding = sum(layer_type == "sliding_attention" for layer_type in layer_types)
    window_tokens = getattr(hf_config, "sliding_window", None)
    # Without the hybrid manager every layer keeps the whole request.
    if not sliding or not window_tokens or config.scheduler_config.disable_hybrid_kv_cache_manager:
        return 0.0, 0
    return sliding / len(layer_types), int(window_tokens)


def on_engine_output(llm: "AsyncLLM", callback: Callable[[], None]) -> None:
    """Call `callback` whenever the engine core has sent the output of a step, on the engine's loop.

    The requests themselves yield only their final output. If this vLLM lacks `get_output_async`, only finished requests
    count as progress.
    """
    core = getattr(llm, "engine_core", None)
    get_output = getattr(core, "get_output_async", None)
    if core is None or get_output is None:
        _missing("engine_core.get_output_async", "only a finished request counts as progress")
        return

    async def get_output_async() -> Any:
        output = await get_output()
        callback()
        return output

    core.get_output_async = get_output_async


def exit_codes(llm: "AsyncLLM") -> list[int]:
    """Exit codes of the engine's child processes that failed; empty if this vLLM keeps the processes elsewhere."""
    return [process.exitcode for process in _processes(llm) if process.exitcode]


def exit_codes_of_failed_start(error: BaseException) -> list[int]:
    """Exit codes in the message of a start that failed: "Failed core proc(s): {'EngineCore': -9}"."""
    return [int(code) for code in re.findall(r"'\w+': (-?\d+)", str(error))]


def shut_down(llm: "AsyncLLM") -> None:
    """Shut the engine down and wait for its processes: vLLM kills a process that ends slowly, but does not wait.

    The engine's __del__ would shut it down again, and fail during the interpreter's exit.
    """
    processes = _processes(llm)
    llm.shutdown()
    llm.shutdown = lambda: None
    for process in processes:
        process.join(_PROCESS_END_SECONDS)


def _processes(llm: "AsyncLLM") -> list[BaseProcess]:
    manager = getattr(getattr(llm.engine_core, "resources", None), "engine_manager", None)
    if manager is None:
        _missing("engine_core.resources.engine_manager", "an engine's death is reported without its exit code")
    return list(getattr(manager, "processes", ()))


def _missing(name: str, consequence: str) -> None:
    import vllm

    _log.warning("vLLM %s has no %s: %s", vllm.__version__, name, consequence)
