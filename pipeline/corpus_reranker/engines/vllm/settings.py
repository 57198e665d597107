"""The `engine` section for vLLM. Fields keep vLLM's names."""

import os
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from corpus_reranker.engines.base import EngineCapabilities, EngineSettings
from corpus_reranker.engines.model_files import check_folder
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import StorageConfig

_WORLD_SIZE_KWARGS = ("pipeline_parallel_size", "prefill_context_parallel_size")
"""Multiply the number of GPUs (vllm/config/parallel.py: ParallelConfig.world_size). Decode context parallelism does
not: it splits the KV cache over the GPUs of tensor parallelism."""


class VllmSettings(EngineSettings):
    """`engine_kwargs` passes any other engine argument to vLLM unchanged."""

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
    """vLLM's `runner`: what the model is run for."""

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
        "On a CPU the environment variable VLLM_CPU_KVCACHE_SPACE has priority.",
    )
    max_num_batched_tokens: int | None = Field(None, ge=1)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    enforce_eager: bool = False
    lora_path: str | None = Field(None, description="Folder or URL of a LoRA adapter, as `model`.")
    seed: int = 0
    engine_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Any other argument of vLLM's AsyncEngineArgs. distributed_executor_backend: ray lets one replica "
        "span several nodes.",
    )

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
        """One bundle for each GPU: vLLM's Ray executor puts one worker into each, on whatever node Ray chose."""
        if not self.spans_nodes or self.device != "gpu":
            return None
        return tuple({"GPU": 1.0} for _ in range(self._world_size))

    @property
    def spans_nodes(self) -> bool:
        return bool(self.engine_kwargs.get("distributed_executor_backend") == "ray")

    def preflight(self, section: str, storage: StorageConfig) -> list[str]:
        """Check the model's folder. On a cluster the driver may lack it, which is a warning."""
        try:
            check_folder(self.model, "config.json", f"{section}.model")
            if self.lora_path:
                check_folder(self.lora_path, "adapter_config.json", f"{section}.lora_path")
        except ConfigError as error:
            if "RAY_ADDRESS" not in os.environ:
                raise
            return [f"{error}; the cluster's GPU nodes may have it"]
        return []

    @property
    def _world_size(self) -> int:
        size = self.tensor_parallel_size
        for name in _WORLD_SIZE_KWARGS:
            size *= int(self.engine_kwargs.get(name, 1))
        return size

    @model_validator(mode="after")
    def _each_argument_once(self) -> Self:
        duplicated = sorted(set(self.engine_kwargs) & set(type(self).model_fields))
        if duplicated:
            raise ValueError(f"engine_kwargs sets {', '.join(duplicated)}; set engine.{duplicated[0]} itself")
        return self

    @model_validator(mode="after")
    def _parallel_sizes(self) -> Self:
        for name in (*_WORLD_SIZE_KWARGS, "decode_context_parallel_size", "data_parallel_size"):
            size = self.engine_kwargs.get(name, 1)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"engine_kwargs.{name} must be a whole number of at least 1, got {size!r}")
        if self.engine_kwargs.get("data_parallel_size", 1) > 1:
            raise ValueError(
                "engine_kwargs.data_parallel_size is not supported: each replica is an engine of its own, with its own"
                " queries and its own restart; raise cluster.max_replicas instead"
            )
        context_parallel = self.engine_kwargs.get("decode_context_parallel_size", 1)
        if self.tensor_parallel_size % context_parallel:
            raise ValueError(
                f"tensor_parallel_size {self.tensor_parallel_size} must be a multiple of"
                f" engine_kwargs.decode_context_parallel_size {context_parallel}, which shares its GPUs"
            )
        return self
