"""One engine with random weights, kept full: a step of the GPU check, in a process of its own.

    python -m gpu_check.engine_step '{"shape": "qwen2.5-7b", "max_num_batched_tokens": 16384, ...}' RESULT.json

Imports vLLM, PyTorch, pydantic and the package's engines, and neither Ray nor pyarrow, so that it runs on a machine
that has none of them. Writes its figures, or the reason why there are none, to RESULT.json.
"""

import asyncio
import dataclasses
import importlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from corpus_reranker.dataflow.capacity import Capacity, with_headroom
from corpus_reranker.engines.vllm.engine import VllmEngine
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import RerankerError
from corpus_reranker.types import Prompt, SamplingParams
from gpu_check.model_shape import SHAPES, ModelShape, write_model_folder
from gpu_check.steady_load import keep_in_flight
from gpu_check.steps import write_result

_METRICS = {
    "vllm:num_requests_running": "running",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:num_preemptions": "preemptions",
}
"""vLLM's metrics, and the names of steady_load.Sample."""

_STOP_SECONDS = 10.0
"""Kept for ending the engine."""


@dataclasses.dataclass(frozen=True, slots=True)
class EngineStep:
    """What one step starts and how long it may take."""

    shape: str = "qwen2.5-7b"
    device: str = "gpu"
    max_num_batched_tokens: int = 16384
    max_num_seqs: int = 384
    """configs/reasonrank-7b.yaml: for a GPU with 110 GB of KV cache. A smaller cache limits the windows itself."""

    quantization: str | None = None
    enforce_eager: bool = False
    worker_class: str | None = None
    """A vLLM worker that stands in for the one with the model, as module.Class."""

    limit_seconds: float = 160.0
    """From the start of the process to its end."""

    load_seconds: float = 110.0
    """How long the engine is kept full, warm-up included; less if starting it left less of `limit_seconds`."""


def engine_settings(step: EngineStep, shape: ModelShape, folder: Path) -> VllmSettings:
    """The settings of configs/reasonrank-7b.yaml, but for what the step varies and for the random weights."""
    extra = {"worker_cls": step.worker_class} if step.worker_class else {}
    return VllmSettings(
        model=str(folder),
        device=step.device,
        dtype="bfloat16" if step.device == "gpu" else "float32",
        max_model_len=shape.max_position_embeddings,
        max_num_seqs=step.max_num_seqs,
        max_num_batched_tokens=step.max_num_batched_tokens,
        quantization=step.quantization,
        enforce_eager=step.enforce_eager or step.device == "cpu",
        kv_cache_gib=0.25 if step.device == "cpu" else None,
        engine_kwargs={"load_format": "dummy", "disable_log_stats": False, **extra},
    )


async def run(step: EngineStep, folder: Path, began: float, result: Path) -> None:
    """Start the engine, keep it full until the time is over, and write the figures before the engine is stopped.

    Args:
        step: What to start.
        folder: Where the model folder is written.
        began: When the step's time began, by time.monotonic().
        result: The JSON file to write.

    Raises:
        RerankerError: If the engine does not start or dies.
        ValueError: If too few windows ended in the time.
    """
    shape = SHAPES[step.shape]
    write_model_folder(shape, folder)
    if step.worker_class:
        importlib.import_module(step.worker_class.rpartition(".")[0])  # it patches what needs a GPU
    engine = VllmEngine(engine_settings(step, shape, folder))
    await engine.start()
    started = time.monotonic()
    info = engine.info()
    capacity = Capacity(info["max_num_seqs"], info["kv_cache_tokens"]).windows(shape.prompt_tokens, shape.output_tokens)
    in_flight = with_headroom(capacity)
    left = step.limit_seconds - _STOP_SECONDS - (started - began)

    async def answer(number: int, output_tokens: int) -> int:
        params = SamplingParams(0.0, 1.0, 0, 0.0, output_tokens, 0, ("</answer>",))
        return (await engine.generate(random_prompt(shape, number), params)).output_tokens

    try:
        measured = await keep_in_flight(
            answer, counters, in_flight, shape.output_tokens, max(1.0, min(step.load_seconds, left))
        )
        figures = {
            "device_name": info["device_name"],
            "start_seconds": started - began,
            "capacity": capacity,
            "kv_cache_tokens": info["kv_cache_tokens"],
            "in_flight": in_flight,
            "measurement": dataclasses.asdict(measured),
        }
        write_result(result, figures)
    finally:
        await engine.stop()


def random_prompt(shape: ModelShape, number: int) -> Prompt:
    """A prompt that shares no prefix with the others; its last token is FOREVER."""
    rng = random.Random(number)
    ids = rng.choices(range(shape.vocab_size - 2), k=shape.prompt_tokens - 1)
    return Prompt("", (*ids, shape.vocab_size - 2))


def counters() -> Mapping[str, float]:
    """The engine's own counters, from the metrics that vLLM keeps in this process."""
    from vllm.v1.metrics.reader import get_metrics_snapshot

    values = dict.fromkeys(_METRICS.values(), 0.0)
    for metric in get_metrics_snapshot():
        if name := _METRICS.get(metric.name):
            values[name] += getattr(metric, "value", 0.0)
    return values


def main() -> None:
    """Run the step that the arguments name."""
    began = time.monotonic()
    step, result = EngineStep(**json.loads(sys.argv[1])), Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        try:
            asyncio.run(run(step, Path(folder), began, result))
        except (RerankerError, ValueError) as error:
            write_result(result, {"reason": str(error)})


if __name__ == "__main__":
    main()
