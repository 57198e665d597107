"""The `engine` section for vLLM. The keys have vLLM's names."""

import os
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from corpus_reranker.engines.base import EngineCapabilities, EngineSettings
from corpus_reranker.engines.model_files import check_model, context_limit_tokens, read_model_config
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import StorageConfig

_WORLD_SIZE_KWARGS = ("pipeline_parallel_size", "prefill_context_parallel_size")
"""Arguments that multiply the number of GPUs (vllm/config/parallel.py: ParallelConfig.world_size). Decode
context parallelism does not: it splits the KV cache over the GPUs of tensor parallelism."""


SPEED_ONLY_KWARGS = frozenset(
    {
        # how the model is split over GPUs and processes, as with tensor_parallel_size
        *_WORLD_SIZE_KWARGS,
        "decode_context_parallel_size",
        "data_parallel_size",
        "distributed_executor_backend",
        "enable_expert_parallel",
        "disable_custom_all_reduce",
        "max_parallel_loading_workers",
        "numa_bind",
        "numa_bind_nodes",
        "numa_bind_cpus",
        "ray_workers_use_nsight",
        # location and size of the KV cache
        "block_size",
        "enable_prefix_caching",
        "prefix_caching_hash_algo",
        "kv_cache_memory_bytes",
        "num_gpu_blocks_override",
        "cpu_offload_gb",
        "kv_offloading_size",
        "kv_offloading_backend",
        # which requests share a step
        "async_scheduling",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "max_num_scheduled_tokens",
        "scheduler_reserve_full_isl",
        "scheduling_policy",
        "stream_interval",
        "watermark",
        # compilation, as with enforce_eager
        "compilation_config",
        "cudagraph_capture_sizes",
        "max_cudagraph_capture_size",
        "optimization_level",
        "performance_mode",
        # logs and metrics
        "disable_log_stats",
        "enable_log_requests",
        "enable_logging_iteration_details",
        "aggregate_engine_logging",
        "otlp_traces_endpoint",
        "collect_detailed_traces",
        "kv_cache_metrics",
        "cudagraph_metrics",
        "use_tqdm_on_load",
    }
)
"""Arguments of vLLM's AsyncEngineArgs (vllm/engine/arg_utils.py, 0.32) that affect the speed of the engine, but not its
answers, apart from rounding, which also differs between batches. All other arguments are part of the fingerprint."""


class VllmSettings(EngineSettings):
    """vLLM's AsyncLLM. `engine_kwargs` passes any other engine argument to vLLM unchanged."""

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
    """vLLM's engine argument `runner`."""

    kind: Literal["vllm"] = Field("vllm", description="The vLLM engine.")
    device: Literal["gpu", "cpu"] = Field("gpu", description="Device; the installed build of vLLM must support it.")
    dtype: str = Field(
        "auto", description="Type of weights and activations. Use float32 on a CPU, where bfloat16 is much slower."
    )
    tensor_parallel_size: int = Field(1, ge=1, description="Number of GPUs over which each layer is split.")
    quantization: str | None = Field(
        None, description="Quantization method, such as fp8_per_tensor. None: that of the model's config, if any."
    )
    kv_cache_dtype: str = Field("auto", description="Type of the KV cache, such as fp8; auto: that of the model.")
    kv_cache_gib: float | None = Field(
        None,
        gt=0,
        description="Memory for the KV cache in GiB. None: what gpu_memory_utilization leaves after the weights. "
        "On a CPU, the environment variable VLLM_CPU_KVCACHE_SPACE takes precedence.",
    )
    max_num_batched_tokens: int | None = Field(
        None, ge=1, description="Token budget of one scheduler step. None: vLLM's default."
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Fraction of the GPU memory for weights, activations and KV cache."
    )
    enforce_eager: bool = Field(False, description="Disable torch.compile and CUDA graphs.")
    deterministic: bool = Field(
        False,
        description="Use vLLM's batch-invariant kernels (VLLM_BATCH_INVARIANT): a completion does not depend on the "
        "requests that share its batch, so that a repeated run gives the same rankings. Slower. Not on a CPU.",
    )
    lora_path: str | None = Field(None, description="LoRA adapter: a folder, hub id or URL, as for `model`.")
    seed: int = Field(0, description="Seed of the engine. The seeds of requests come from `generation.seed`.")
    engine_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Any other arguments of vLLM's AsyncEngineArgs. With distributed_executor_backend: ray, a replica "
        "can span several nodes.",
    )

    def fingerprint_fields(self) -> dict[str, Any]:
        kwargs = {name: value for name, value in self.engine_kwargs.items() if name not in SPEED_ONLY_KWARGS}
        return super().fingerprint_fields() | {"engine_kwargs": kwargs}

    @property
    def capabilities(self) -> EngineCapabilities:
        on_gpu = self.device == "gpu"
        return EngineCapabilities(
            regex=True,
            choice_logprobs=True,
            device=self.device,
            gpus=self._world_size if on_gpu else 0,
            gpu_memory_utilization=self.gpu_memory_utilization if on_gpu else 0.0,
        )

    @property
    def placement_bundles(self) -> tuple[dict[str, float], ...] | None:
        """One bundle for each GPU. vLLM's Ray executor starts one worker in each bundle."""
        if not self.spans_nodes or self.device != "gpu":
            return None
        return tuple({"GPU": 1.0} for _ in range(self._world_size))

    @property
    def spans_nodes(self) -> bool:
        return bool(self.engine_kwargs.get("distributed_executor_backend") == "ray")

    def preflight(self, section: str, storage: StorageConfig) -> list[str]:
        """Check the model's files and its context. A folder that the driver of a cluster lacks is only a warning."""
        sources = [(self.model, "config.json", f"{section}.model")]
        if self.lora_path:
            sources.append((self.lora_path, "adapter_config.json", f"{section}.lora_path"))
        warnings = []
        for source, file, key in sources:
            if self.spans_nodes and "://" in source:
                raise ConfigError(
                    f"{key}: {source} is downloaded by the node of the replica's actor alone, and this replica spans"
                    " nodes; give a hub id, or a folder that every node has"
                )
            try:
                check_model(source, file, key, storage)
            except ConfigError as error:
                if "RAY_ADDRESS" not in os.environ:
                    raise
                warnings.append(f"{error}; the cluster's GPU nodes may have it")
        self._check_context(section, storage)
        return warnings

    def _check_context(self, section: str, storage: StorageConfig) -> None:
        """Check that the model supports the context. vLLM would refuse it minutes later, on every replica."""
        if "hf_overrides" in self.engine_kwargs or "VLLM_ALLOW_LONG_MAX_MODEL_LEN" in os.environ:
            return
        limit_tokens = context_limit_tokens(read_model_config(self.model, storage) or {})
        if limit_tokens is not None and self.max_model_len > limit_tokens:
            raise ConfigError(
                f"{section}.max_model_len {self.max_model_len} is over the {limit_tokens} tokens of {self.model}"
                " (max_position_embeddings of its config.json); lower it"
            )

    @property
    def _world_size(self) -> int:
        size = self.tensor_parallel_size
        for name in _WORLD_SIZE_KWARGS:
            size *= int(self.engine_kwargs.get(name, 1))
        return size

    @model_validator(mode="after")
    def _deterministic_needs_gpu(self) -> Self:
        """vllm/model_executor/determinism/batch_invariant.py replaces only kernels of CUDA, ROCm and XPU."""
        if self.deterministic and self.device == "cpu":
            raise ValueError(
                "deterministic needs a GPU: vLLM's CPU build has no batch-invariant kernels; set max_num_seqs to 1"
                " instead, so that no two requests share a batch"
            )
        return self

    @model_validator(mode="after")
    def _each_argument_once(self) -> Self:
        duplicated = sorted(set(self.engine_kwargs) & set(type(self).model_fields))
        if duplicated:
            raise ValueError(f"engine_kwargs sets {', '.join(duplicated)}; set engine.{duplicated[0]} itself")
        return self

    @model_validator(mode="after")
    def _supported_kwargs(self) -> Self:
        for name in (*_WORLD_SIZE_KWARGS, "decode_context_parallel_size", "data_parallel_size"):
            size = self.engine_kwargs.get(name, 1)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"engine_kwargs.{name} must be a whole number of at least 1, got {size!r}")
        if "revision" in self.engine_kwargs:
            raise ValueError("engine_kwargs.revision pins only the weights; write model: hf://owner/name@revision")
        if self.engine_kwargs.get("data_parallel_size", 1) > 1:
            raise ValueError(
                "engine_kwargs.data_parallel_size is not supported: replicas are independent engines that are restarted"
                " separately; raise cluster.max_replicas instead"
            )
        context_parallel = self.engine_kwargs.get("decode_context_parallel_size", 1)
        if self.tensor_parallel_size % context_parallel:
            raise ValueError(
                f"tensor_parallel_size {self.tensor_parallel_size} must be a multiple of"
                f" engine_kwargs.decode_context_parallel_size {context_parallel}, which shares its GPUs"
            )
        return self
