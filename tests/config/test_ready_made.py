"""The ready-made configs load, and name their choice of batch size."""

import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.run.preflight import preflight

HOSTED = "hosted"
NAMES = sorted(path.stem for path in CONFIGS_DIRECTORY.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_made_config_passes_preflight(name: str) -> None:
    config = load_config(name, ["--input.path=/in", "--output.path=/out"])
    preflight(config)
    engines = [config.engine, *([config.pre_ranker.engine] if config.pre_ranker else [])]
    for engine in engines:
        if name == HOSTED:
            assert engine.kind == "openai"
            continue
        assert isinstance(engine, VllmSettings)
        assert engine.max_num_batched_tokens is not None  # vLLM's own choice for an AsyncLLM is 2048
        assert engine.kv_cache_dtype == "auto"


def test_rankvicuna_fits_its_model() -> None:
    assert load_config("rankvicuna", ["--input.path=in", "--output.path=out"]).engine.max_model_len <= 4096
