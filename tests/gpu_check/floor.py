"""The least time that a window can take on a GPU, from its data sheet: the lower bound for measured figures."""

from dataclasses import dataclass

from gpu_check.model_shape import ModelShape


@dataclass(frozen=True, slots=True)
class Card:
    """Peak rates of a GPU: memory bandwidth, and dense matrix operations. No `fp8_teraflops`: no FP8 units."""

    terabytes_per_second: float
    bf16_teraflops: float
    fp8_teraflops: float | None = None


CARDS = {
    "NVIDIA A100-SXM4-80GB": Card(2.039, 312.0),
    "NVIDIA A100 80GB PCIe": Card(1.935, 312.0),
    "NVIDIA L40S": Card(0.864, 362.0, 733.0),
    "NVIDIA H100 80GB HBM3": Card(3.35, 989.0, 1979.0),
    "NVIDIA H100 PCIe": Card(2.0, 756.0, 1513.0),
    "NVIDIA H200": Card(4.8, 989.0, 1979.0),
}
"""By the name that nvidia-smi shows. NVIDIA's data sheets; where they give rates with sparsity, half of those."""


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds of the GPU that one window takes at the card's peak rates.

    Matrix kernels read their weights while they multiply, so the larger of the two counts. Attention kernels run before
    and after them, so theirs is added.
    """

    matrix_seconds: float
    """2 operations for each parameter and token; the output matrix counts for output tokens alone."""

    weight_seconds: float
    """The weights are read once for each output token, for all windows in flight together."""

    prompt_attention_seconds: float
    """4 x layers x hidden size x prompt tokens^2 / 2 operations, in bfloat16."""

    kv_cache_seconds: float
    """Each output token reads the window's keys and values."""

    @property
    def seconds(self) -> float:
        """The window's floor."""
        return max(self.matrix_seconds, self.weight_seconds) + self.prompt_attention_seconds + self.kv_cache_seconds

    @property
    def windows_per_second(self) -> float:
        """The most windows that the card can answer in a second."""
        return 1 / self.seconds

    def formula(self) -> str:
        """The sum with its parts, on one line."""
        return (
            f"max(matrices {self.matrix_seconds:.4f}, weights {self.weight_seconds:.4f})"
            f" + prompt attention {self.prompt_attention_seconds:.4f} + KV cache {self.kv_cache_seconds:.4f}"
            f" = {self.seconds:.4f} s a window, {self.windows_per_second:.2f} windows/s"
        )


def window_floor(shape: ModelShape, card: Card, in_flight: int, fp8_weights: bool = False) -> Floor:
    """The floor of one window while `in_flight` of them are decoded together.

    Args:
        shape: The model and the window's tokens.
        card: Peak rates.
        in_flight: Windows that share each reading of the weights.
        fp8_weights: Layers are multiplied in FP8 at 1 byte for each weight. The output matrix, attention and KV cache
            stay in bfloat16, as with vLLM's fp8_per_tensor.

    Raises:
        ValueError: If `fp8_weights` and the card multiplies no FP8.
    """
    if fp8_weights and card.fp8_teraflops is None:
        raise ValueError("this GPU multiplies no FP8 matrices")
    bf16, bandwidth = card.bf16_teraflops * 1e12, card.terabytes_per_second * 1e12
    layers = card.fp8_teraflops * 1e12 if fp8_weights and card.fp8_teraflops else bf16
    tokens = shape.prompt_tokens + shape.output_tokens
    weight_bytes = shape.layer_parameters * (1 if fp8_weights else 2) + shape.head_parameters * 2
    attention = 2 * shape.num_hidden_layers * shape.hidden_size * shape.prompt_tokens**2
    return Floor(
        matrix_seconds=2 * shape.layer_parameters * tokens / layers
        + 2 * shape.head_parameters * shape.output_tokens / bf16,
        weight_seconds=shape.output_tokens * weight_bytes / in_flight / bandwidth,
        prompt_attention_seconds=attention / bf16,
        kv_cache_seconds=shape.output_tokens * shape.mean_tokens_in_cache * shape.kv_bytes_per_token / bandwidth,
    )
