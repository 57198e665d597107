"""What can be seen to be wrong before any actor starts, beyond what the config's own types say."""

from pathlib import Path

from pipeline.config import CONFIGS_DIRECTORY, JobConfig
from pipeline.engines.vllm import VllmSettings
from pipeline.errors import ConfigError
from pipeline.prompting.template import load_template

_MIN_PASSAGE_TOKENS = 16
"""Below this a passage says nothing; a context that leaves less for each is a mistake, not a budget."""


def preflight(config: JobConfig) -> list[str]:
    """Warnings for a person to read. Raises ConfigError for what cannot work."""
    _check_model(config)
    load_template(config.prompt.template, CONFIGS_DIRECTORY / "prompts")
    _check_places(config.input.path, config.output.path)
    return _check_budget(config)


def _check_model(config: JobConfig) -> None:
    engine = config.engine
    if not isinstance(engine, VllmSettings):
        return
    for key, value in (("model", engine.model), ("tokenizer", engine.tokenizer), ("lora_path", engine.lora_path)):
        if value is None or not _looks_like_a_path(value):
            continue
        folder = Path(value).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"engine.{key}: no folder {value}; give the folder of a model, or its hub id")
        if key == "model" and not (folder / "config.json").is_file():
            raise ConfigError(f"engine.model: {value} holds no config.json; is it a model's folder?")


def _looks_like_a_path(value: str) -> bool:
    """A hub id has at most one slash and starts with neither "." nor "/"."""
    return value.startswith((".", "/", "~")) or value.count("/") > 1 or Path(value).exists()


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
            f" beside {output_tokens} output tokens: long passages will be cut to fewer than {for_passages_tokens} tokens,"
            " evenly, and their windows will say so"
        ]
    return []
