"""Windows/s of one GPU with random weights in the shape of Qwen2.5-7B, beside the floor from bytes and operations.

    python tests/benchmarks/gpu_throughput.py [--windows 1000] [--terabytes-per-second 3.35] [--teraflops 989]
    python tests/benchmarks/gpu_throughput.py --dry-run          # a tiny shape on the CPU: shows that the script runs

ReasonRank's lengths: 5,690 prompt and 750 output tokens a window. All windows are given to vLLM at once. The default
bandwidth and dense bfloat16 operations are an H100 SXM's (NVIDIA's data sheet); an H200 has 4.8 TB/s, an A100 80 GB 2.0
TB/s and 312 TFLOP/s.
"""

import asyncio
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from workload import report

from corpus_reranker.engines.vllm.engine import VllmEngine
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.types import Prompt, SamplingParams


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2 model and the lengths of its windows."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    prompt_tokens: int
    output_tokens: int

    @property
    def parameters(self) -> int:
        """Of the matrices; norms and biases don't count."""
        head = self.hidden // self.heads
        attention = 2 * self.hidden**2 + 2 * self.hidden * self.kv_heads * head
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + 2 * self.vocabulary * self.hidden

    @property
    def kv_bytes(self) -> int:
        """Of one token in bfloat16."""
        return self.layers * self.kv_heads * (self.hidden // self.heads) * 2 * 2


QWEN25_7B = Shape(3584, 28, 28, 4, 18944, 152064, 5690, 750)
"""config.json of Qwen/Qwen2.5-7B-Instruct."""

TINY = Shape(256, 2, 4, 2, 512, 1000, 96, 16)


def write_config(shape: Shape, folder: Path, context_tokens: int) -> None:
    """A model folder that vLLM loads with random weights."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": context_tokens,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def floor_seconds(shape: Shape, in_flight: int, bytes_per_second: float, operations_per_second: float) -> float:
    """The least a window can take when `in_flight` of them are decoded together.

    Prompt: 2 operations a parameter and token. Output: the weights are read once a step for all windows in flight, each
    window's KV cache (half of the output in it, on average) once a step for itself.
    """
    prompt = 2 * shape.parameters * shape.prompt_tokens / operations_per_second
    held_tokens = shape.prompt_tokens + shape.output_tokens / 2
    step_bytes = 2 * shape.parameters / in_flight + held_tokens * shape.kv_bytes
    return prompt + shape.output_tokens * step_bytes / bytes_per_second


async def rank_windows(settings: VllmSettings, shape: Shape, windows: int) -> dict[str, Any]:
    """Give `windows` random prompts to one engine at once."""
    rng = random.Random(0)
    params = SamplingParams(0.0, 1.0, 0, 0.0, shape.output_tokens, 0)
    prompts = [
        Prompt("", tuple(rng.randrange(shape.vocabulary) for _ in range(shape.prompt_tokens))) for _ in range(windows)
    ]
    engine = VllmEngine(settings)
    await engine.start()
    await engine.generate(prompts[0], params)
    began = time.perf_counter()
    completions = await asyncio.gather(*(engine.generate(prompt, params) for prompt in prompts))
    seconds, info = time.perf_counter() - began, engine.info()
    await engine.stop()
    return {**info, "seconds": seconds, "output_tokens": sum(each.output_tokens for each in completions)}


def main(
    windows: Annotated[int, typer.Option(help="All given at once.")] = 1000,
    terabytes_per_second: Annotated[float, typer.Option(help="Memory bandwidth of the GPU.")] = 3.35,
    teraflops: Annotated[float, typer.Option(help="Dense bfloat16 operations of the GPU.")] = 989.0,
    max_num_seqs: Annotated[int, typer.Option(help="As in configs/reasonrank-7b.yaml.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="As in configs/reasonrank-7b.yaml.")] = 16384,
    dry_run: Annotated[bool, typer.Option(help="A tiny shape on the CPU.")] = False,
) -> None:
    """Print windows/s and their fraction of the floor."""
    shape, windows = (TINY, min(windows, 8)) if dry_run else (QWEN25_7B, windows)
    context_tokens = shape.prompt_tokens + shape.output_tokens
    with tempfile.TemporaryDirectory() as folder:
        write_config(shape, Path(folder), context_tokens)
        settings = VllmSettings(
            model=folder,
            device="cpu" if dry_run else "gpu",
            dtype="float32" if dry_run else "bfloat16",
            enforce_eager=dry_run,
            max_model_len=context_tokens,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            kv_cache_gib=1 if dry_run else None,
            engine_kwargs={"load_format": "dummy", "skip_tokenizer_init": True},
        )
        info = asyncio.run(rank_windows(settings, shape, windows))
    in_cache = int((info["kv_cache_tokens"] or 0) / (shape.prompt_tokens + shape.output_tokens / 2))
    in_flight = max(1, min(windows, max_num_seqs, in_cache or max_num_seqs))
    least = floor_seconds(shape, in_flight, terabytes_per_second * 1e12, teraflops * 1e12)
    row = {
        "device": info["device_name"],
        "windows": windows,
        "in_flight_at_most": in_flight,
        "seconds": info["seconds"],
        "windows_per_second": windows / info["seconds"],
        "output_tokens_per_second": info["output_tokens"] / info["seconds"],
        "fraction_of_floor": float("nan") if dry_run else least * windows / info["seconds"],
    }
    report("gpu_throughput_dry_run" if dry_run else "gpu_throughput", [row], "random weights, vLLM alone")


if __name__ == "__main__":
    typer.run(main)
