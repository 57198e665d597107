"""The floor of a window, by hand."""

import pytest

from gpu_check.floor import CARDS, Card, window_floor
from gpu_check.model_shape import QWEN25_7B, ModelShape

SMALL = ModelShape(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=16,
    vocab_size=100,
    max_position_embeddings=1000,
    prompt_tokens=30,
    output_tokens=10,
)
UNIT = Card(terabytes_per_second=1e-12, bf16_teraflops=1e-12, fp8_teraflops=2e-12)
"""One byte and one operation a second."""


def test_a_shape_counts_its_matrices_and_its_cache() -> None:
    query_and_output, key_and_value, feed_forward = 2 * 8 * 8, 2 * 8 * 4, 3 * 8 * 16
    assert SMALL.layer_parameters == 2 * (query_and_output + key_and_value + feed_forward)
    assert SMALL.head_parameters == 800
    assert SMALL.kv_bytes_per_token == 2 * (2 * 2) * 2 * 2
    assert SMALL.mean_tokens_in_cache == 35


def test_the_7b_has_the_parameters_of_its_model_card() -> None:
    matrices = QWEN25_7B.layer_parameters + 2 * QWEN25_7B.head_parameters
    assert matrices == pytest.approx(7.6e9, rel=0.01)
    assert QWEN25_7B.kv_bytes_per_token == 57_344


def test_a_floor_is_the_sum_of_its_matrix_weight_and_cache_times() -> None:
    floor = window_floor(SMALL, UNIT, in_flight=5)
    assert floor.matrix_seconds == 2 * 1152 * 40 + 2 * 800 * 10
    assert floor.weight_seconds == pytest.approx(10 * 2 * (1152 + 800) / 5)
    assert floor.prompt_attention_seconds == 4 * 2 * 8 * 30**2 / 2
    assert floor.kv_cache_seconds == 10 * 35 * 32
    assert floor.seconds == 108_160 + 28_800 + 11_200


def test_reading_the_weights_counts_if_few_windows_share_it() -> None:
    slow_memory = Card(terabytes_per_second=1e-15, bf16_teraflops=1e-12)
    floor = window_floor(SMALL, slow_memory, in_flight=1)
    assert floor.weight_seconds > floor.matrix_seconds
    assert floor.seconds == floor.weight_seconds + floor.prompt_attention_seconds + floor.kv_cache_seconds


def test_fp8_weights_halve_the_layers_alone() -> None:
    full, fp8 = window_floor(SMALL, UNIT, 5), window_floor(SMALL, UNIT, 5, fp8_weights=True)
    assert fp8.matrix_seconds == 2 * 1152 * 40 / 2 + 2 * 800 * 10
    assert fp8.weight_seconds == pytest.approx(10 * (1152 + 2 * 800) / 5)
    assert (fp8.prompt_attention_seconds, fp8.kv_cache_seconds) == (
        full.prompt_attention_seconds,
        full.kv_cache_seconds,
    )


def test_a_gpu_without_fp8_has_no_such_floor() -> None:
    with pytest.raises(ValueError, match="no FP8"):
        window_floor(QWEN25_7B, CARDS["NVIDIA A100-SXM4-80GB"], 100, fp8_weights=True)


def test_the_formula_names_every_part_and_the_rate() -> None:
    floor = window_floor(QWEN25_7B, CARDS["NVIDIA H100 80GB HBM3"], 157)
    assert floor.formula() == (
        "max(matrices 0.0858, weights 0.0202) + prompt attention 0.0066 + KV cache 0.0779"
        " = 0.1702 s a window, 5.87 windows/s"
    )
