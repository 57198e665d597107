"""What can be seen to be wrong before any actor starts, beyond what the config's own types say."""

import os
from pathlib import Path

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.registry import AnyEngineSettings, AnyPreRankerSettings
from corpus_reranker.engines.vllm.engine import VllmSettings, check_folder
from corpus_reranker.errors import ConfigError

_MIN_PASSAGE_TOKENS = 16
"""Below this a passage says nothing; a context that leaves less for each is a mistake, not a budget."""


def preflight(config: JobConfig) -> list[str]:
    """Warnings for a person to read. Raises ConfigError for what cannot work."""
    _check_template(config)
    _check_places(config.input.path, config.output.path)
    warnings = _check_model(config.engine, "engine")
    if config.pre_ranker is not None:
        warnings += _check_model(config.pre_ranker.engine, "pre_ranker.engine")
        _check_shared_gpu(config.engine, config.pre_ranker.engine)
    return [*warnings, *_check_budget(config)]


def _check_template(config: JobConfig) -> None:
    template, window = config.prompt.load_template(), config.strategy.max_window
    config.prompt.load_examples()
    if template.max_window is not None and window > template.max_window:
        raise ConfigError(
            f"prompt.template {config.prompt.template} can name {template.max_window} passages, and the strategy's"
            f" windows show {window}; lower strategy.window"
        )
    if config.policy.force_answer and template.answer_format not in ("reasoning", "plain"):
        raise ConfigError(
            f"policy.force_answer is for answer formats reasoning and plain; prompt.template {config.prompt.template}"
            f" has {template.answer_format}"
        )
    if template.answer_format == "first_token" and config.generation.max_tokens != 1:
        raise ConfigError(
            f"prompt.template {config.prompt.template} ranks by the first token alone; set"
            " generation.max_reasoning_tokens to 0 and max_answer_tokens to 1"
        )


def _check_model(engine: AnyEngineSettings | AnyPreRankerSettings, section: str) -> list[str]:
    if not isinstance(engine, VllmSettings):
        return []
    try:
        check_folder(engine.model, "config.json", f"{section}.model")
        if engine.lora_path:
            check_folder(engine.lora_path, "adapter_config.json", f"{section}.lora_path")
    except ConfigError as error:
        if "RAY_ADDRESS" not in os.environ:
            raise
        return [f"{error}; the cluster's GPU nodes may have it"]
    return []


def _check_shared_gpu(engine: AnyEngineSettings, pre_ranker: AnyPreRankerSettings) -> None:
    """Both models are on the replica's first GPU."""
    if not isinstance(engine, VllmSettings) or not isinstance(pre_ranker, VllmSettings):
        return
    if engine.device != pre_ranker.device:
        raise ConfigError(
            f"pre_ranker.engine.device {pre_ranker.device} is not engine.device {engine.device}; both run in one vLLM"
        )
    together = engine.gpu_memory_utilization + pre_ranker.gpu_memory_utilization
    if engine.device == "gpu" and together > 1:
        raise ConfigError(
            f"engine.gpu_memory_utilization {engine.gpu_memory_utilization:g} and pre_ranker.engine's"
            f" {pre_ranker.gpu_memory_utilization:g} are more than one GPU; lower the first"
        )


def _check_places(input_path: str, output_path: str) -> None:
    source, target = _normal(input_path), _normal(output_path)
    if source == target or target.startswith(source + "/"):
        raise ConfigError(
            f"output.path {output_path} lies inside input.path {input_path}; the run would read its output"
        )
    if source.startswith(target + "/"):
        raise ConfigError(f"input.path {input_path} lies inside output.path {output_path}; keep them apart")


def _normal(path: str) -> str:
    if "://" in path and not path.startswith("file://"):
        return path.rstrip("/")
    return str(Path(path.removeprefix("file://")).expanduser().resolve())


def _check_budget(config: JobConfig) -> list[str]:
    """The context must hold the window's passages, the template and the reasoning."""
    context_tokens, output_tokens = config.engine.max_model_len, config.generation.max_tokens
    window, passage_tokens = config.strategy.max_window, config.prompt.max_passage_tokens
    for_passages_tokens = (context_tokens - output_tokens) // window
    if for_passages_tokens < _MIN_PASSAGE_TOKENS:
        raise ConfigError(
            f"engine.max_model_len {context_tokens} minus generation.max_reasoning_tokens + max_answer_tokens"
            f" {output_tokens} leaves {max(for_passages_tokens, 0)} tokens for each of {window} passages;"
            " raise the context, or lower the reasoning budget or the window"
        )
    if for_passages_tokens < passage_tokens:
        return [
            f"a window of {window} passages of prompt.max_passage_tokens {passage_tokens} does not fit the context"
            f" beside {output_tokens} output tokens: long passages will be cut evenly, to fewer than"
            f" {for_passages_tokens} tokens, and their windows will say so"
        ]
    return []
