"""vLLM's AsyncLLM behind `generate`, on an event loop and a thread of its own."""

from typing import Any, Literal

from pydantic import Field

from pipeline.engines.base import EngineSettings


class VllmSettings(EngineSettings):
    """Engine arguments keep vLLM's names; `engine_args` passes any other through unchanged."""

    kind: Literal["vllm"] = "vllm"
    dtype: str = "auto"
    tensor_parallel_size: int = Field(1, ge=1)
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_num_seqs: int = Field(256, ge=1)
    max_num_batched_tokens: int | None = Field(None, ge=1)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    enforce_eager: bool = False
    lora_path: str | None = None
    seed: int = 0
    trust_remote_code: bool = False
    device: Literal["gpu", "cpu"] = "gpu"
    engine_args: dict[str, Any] = Field(default_factory=dict)

    @property
    def gpus_per_replica(self) -> int:
        return self.tensor_parallel_size if self.device == "gpu" else 0
