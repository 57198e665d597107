"""Every ready-made config through the engine's own arguments and vLLM's own config."""

from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.engines.vllm.compat import engine_args
from corpus_reranker.paths import CONFIGS_DIRECTORY
from gpu_build.engines import ready_made, stubbed
from gpu_build.model_folders import SHAPES, make_adapter_folder


def runs_in_vllm(name: str) -> bool:
    """Whether the config has an engine of kind vllm, and a model whose shape is known."""
    engine = ready_made(name).engine
    return engine.kind == "vllm" and engine.model in SHAPES


READY_MADE = sorted(path.stem for path in CONFIGS_DIRECTORY.glob("*.yaml") if runs_in_vllm(path.stem))
PRE_RANKED = [name for name in READY_MADE if ready_made(name).pre_ranker]


def vllm_config(settings: Any, models: Path, **changes: Any) -> Any:
    """vLLM's config, as AsyncLLM builds it before it starts the engine core."""
    from vllm.usage.usage_lib import UsageContext

    stub = stubbed(settings, models, **changes)
    return engine_args(stub, stub.model, None).create_engine_config(UsageContext.ENGINE_CONTEXT)


@pytest.mark.parametrize("name", READY_MADE)
def test_a_ready_made_config_is_one_for_vllm(name: str, models: Path) -> None:
    job = ready_made(name)
    config = vllm_config(job.engine, models)
    assert config.model_config.runner_type == "generate"
    assert config.model_config.max_model_len == job.engine.max_model_len
    assert config.scheduler_config.max_num_seqs == job.engine.max_num_seqs
    assert config.scheduler_config.enable_chunked_prefill
    assert config.parallel_config.world_size == job.engine.capabilities.gpus
    assert str(config.model_config.dtype) == ("torch.float16" if name == "rank1" else "torch.bfloat16")


@pytest.mark.parametrize("name", PRE_RANKED)
def test_a_pre_ranker_of_a_ready_made_config_is_one_for_vllm(name: str, models: Path) -> None:
    pre_ranker = ready_made(name).pre_ranker
    assert pre_ranker is not None
    config = vllm_config(pre_ranker.engine, models)
    assert config.model_config.runner_type == "pooling"
    assert config.model_config.max_model_len == pre_ranker.engine.max_model_len


@pytest.mark.parametrize(
    "override",
    [
        "--engine.quantization=fp8_per_tensor",
        "--engine.kv_cache_dtype=fp8",
        "--engine.engine_kwargs={speculative_config: {method: ngram, num_speculative_tokens: 4, prompt_lookup_max: 4}}",
        "--engine.engine_kwargs={watermark: 0.02}",
        "--engine.engine_kwargs={performance_mode: throughput}",
        "--engine.engine_kwargs={scheduling_policy: priority}",
    ],
)
def test_a_setting_that_the_documents_name(override: str, models: Path) -> None:
    assert vllm_config(ready_made("reasonrank-7b", override).engine, models).model_config.runner_type == "generate"


def test_vllm_accepts_a_lora_adapter(models: Path) -> None:
    config = vllm_config(ready_made("reasonrank-7b").engine, models, lora_path=str(make_adapter_folder(models)))
    assert config.lora_config is not None


def test_vllm_accepts_pipeline_parallelism(models: Path) -> None:
    job = ready_made("reasonrank-7b", "--engine.engine_kwargs={pipeline_parallel_size: 2}")
    assert vllm_config(job.engine, models).parallel_config.world_size == job.engine.capabilities.gpus == 2
