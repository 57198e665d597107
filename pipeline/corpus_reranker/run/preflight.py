"""Checks of a job config before any actor starts, beyond what the types of the config check."""

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.config.strategy import budget_refusal, strategy_options
from corpus_reranker.engines.base import EngineCapabilities, EngineSettings
from corpus_reranker.errors import ConfigError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import canonical
from corpus_reranker.ranking.strategies.base import needs_scores

_MIN_PASSAGE_TOKENS = 16
"""Minimum tokens per passage: a context that leaves less for each passage is a mistake in the config."""


def probed(config: JobConfig) -> JobConfig:
    """`config` with the capabilities that the server of the engine reports. Raises ConfigError if it is unusable."""
    return config.model_copy(update={"engine": config.engine.probed()})


def describe_capabilities(engine: EngineSettings) -> str:
    """One line with what the engine can do."""
    names = {
        "token_ids": "prompts as token ids",
        "continuation": "continued responses",
        "regex": "structured output",
        "choice_logprobs": "log-probabilities of the first token",
        "reasoning_budget": "a reasoning budget",
    }
    supported = [text for name, text in names.items() if getattr(engine.capabilities, name)]
    unsupported = [text for name, text in names.items() if not getattr(engine.capabilities, name)]
    by_verb = {"supports": supported, "does not support": unsupported}
    parts = [f"{verb} {', '.join(texts)}" for verb, texts in by_verb.items() if texts]
    return f"engine {engine.kind} with model {engine.model}: {'; '.join(parts)}"


def preflight(config: JobConfig) -> list[str]:
    """Check a job config.

    Returns:
        Warnings.

    Raises:
        ConfigError: The job cannot work with this config.
    """
    _check_template(config)
    _check_capabilities(config)
    if config.max_cost is not None and config.engine.token_prices is None:
        raise ConfigError(f"max_cost needs engine.prices, which engine.kind {config.engine.kind} does not have")
    _check_paths(config.input.path, config.output.path)
    _check_reuse(config)
    _check_budget(config)
    warnings = config.engine.preflight("engine", config.storage)
    if config.pre_ranker is not None:
        pre_ranker = config.pre_ranker.engine
        warnings += pre_ranker.preflight("pre_ranker.engine", config.storage)
        _check_shared_gpu(config.engine.capabilities, pre_ranker.capabilities)
    return [*warnings, *_check_context(config)]


def _check_template(config: JobConfig) -> None:
    parser, window = config.prompt.load_template().parser, config.strategy.max_window
    config.prompt.load_examples()
    if parser.max_window == 1 < window:
        raise ConfigError(
            f"prompt.template {config.prompt.template} scores one passage, and the strategy's windows show {window};"
            " set strategy.name to pointwise"
        )
    if parser.max_window is not None and window > parser.max_window:
        raise ConfigError(
            f"prompt.template {config.prompt.template} can name {parser.max_window} passages, and the strategy's"
            f" windows show {window}; lower strategy.window"
        )
    if needs_scores(config.strategy) and not parser.gives_scores:
        raise ConfigError(
            f"strategy {strategy_options(config.strategy)['name']} ranks by scores, and the answers of prompt.template"
            f" {config.prompt.template} have none; choose a template whose answer format gives scores, or another"
            " strategy"
        )
    if config.policy.force_answer and not parser.can_force:
        raise ConfigError(
            f"policy.force_answer does not work with the answer format of prompt.template {config.prompt.template};"
            " set policy.force_answer to false"
        )
    if parser.max_tokens is not None and config.generation.max_tokens != parser.max_tokens:
        raise ConfigError(
            f"prompt.template {config.prompt.template} generates {counted(parser.max_tokens, 'token')} per window; set"
            f" generation.max_reasoning_tokens to 0 and generation.max_answer_tokens to {parser.max_tokens}"
        )


def _check_capabilities(config: JobConfig) -> None:
    """Check that the engine has the capabilities that the sections prompt, policy and generation need."""
    engine, section = config.engine.capabilities, f"engine.kind {config.engine.kind}"
    template = config.prompt.load_template()
    if config.policy.force_answer and not engine.regex:
        raise ConfigError(f"policy.force_answer needs an engine with structured output; {section} has none")
    if template.parser.needs_choice_logprobs and not engine.choice_logprobs:
        raise ConfigError(
            f"prompt.template {config.prompt.template} needs the log-probabilities of the first token;"
            f" {section} does not return them"
        )
    if template.prefill and not engine.continuation:
        raise ConfigError(
            f"prompt.template {config.prompt.template} begins the response, and {section} cannot continue one"
        )
    if template.chat is not None and not engine.continuation:
        raise ConfigError(
            f"prompt.template {config.prompt.template} has its own chat template, and {section} uses the model's;"
            " use an engine that takes prompts as text or token ids"
        )
    if config.generation.close_reasoning and not (engine.continuation or engine.reasoning_budget):
        raise ConfigError(f"generation.close_reasoning needs an engine that can continue a response; {section} cannot")


def _check_shared_gpu(engine: EngineCapabilities, pre_ranker: EngineCapabilities) -> None:
    """Check that LLM and pre-ranker fit on the first GPU of a replica, which they share."""
    if pre_ranker.device == "gpu" and not engine.gpus:
        raise ConfigError(
            "pre_ranker.engine.device gpu needs a GPU, and the replicas of this engine have none; set it to cpu"
        )
    if engine.device is None or pre_ranker.device is None:
        return
    if engine.device != pre_ranker.device:
        raise ConfigError(
            f"pre_ranker.engine.device {pre_ranker.device} is not engine.device {engine.device};"
            " set both to the same device, because they share one installation of vLLM"
        )
    if engine.gpu_memory_utilization + pre_ranker.gpu_memory_utilization > 1:
        raise ConfigError(
            f"engine.gpu_memory_utilization {engine.gpu_memory_utilization:g} and pre_ranker.engine's"
            f" {pre_ranker.gpu_memory_utilization:g} add up to more than 1; lower the first"
        )


def _check_paths(input_path: str, output_path: str) -> None:
    source, target = canonical(input_path), canonical(output_path)
    if source == target or target.startswith(source + "/"):
        raise ConfigError(
            f"output.path {output_path} lies inside input.path {input_path}; the run would read its output"
        )
    if source.startswith(target + "/"):
        raise ConfigError(f"input.path {input_path} lies inside output.path {output_path}; choose another folder")


def _check_reuse(config: JobConfig) -> None:
    for key, url in (("input.path", config.input.path), ("output.path", config.output.path)):
        if config.cache.path and f"{canonical(config.cache.path)}/".startswith(f"{canonical(url)}/"):
            raise ConfigError(f"cache.path {config.cache.path} lies inside {key} {url}; choose another folder")
    for url in config.reuse.outputs:
        if canonical(url) == canonical(config.output.path):
            raise ConfigError(f"reuse.outputs names output.path {url}; give the output of an earlier run")


def _check_budget(config: JobConfig) -> None:
    """Check that queries can be continued without repeated requests, and that the budget can be measured."""
    if config.budget is None:
        return
    if refusal := budget_refusal(config.strategy):
        raise ConfigError(refusal)
    if not config.output.completion_cache:
        raise ConfigError("budget needs the completion cache; set output.completion_cache to true")
    if config.pre_ranker is not None:
        raise ConfigError("budget does not work with pre_ranker, whose order may differ between rounds; remove one")
    if config.reuse.outputs:
        raise ConfigError("budget does not work with reuse.outputs, whose rows have other windows; remove one")
    _check_budget_unit(config, config.budget.unit)


def _check_budget_unit(config: JobConfig, unit: str) -> None:
    """Check that a run of `config` measures what a budget in `unit` limits."""
    gpus, prices = config.engine.gpus_per_replica, config.engine.token_prices
    if unit == "gpu_hours" and not gpus:
        raise ConfigError(f"budget.gpu_hours needs an engine on GPUs, and engine.kind {config.engine.kind} uses none")
    if unit == "cost" and not (prices and (prices.prompt or prices.output)):
        if not gpus:
            raise ConfigError("budget.cost needs engine.prices above 0")
        if not config.report.price_per_gpu_hour:
            raise ConfigError("budget.cost needs report.price_per_gpu_hour")


def _check_context(config: JobConfig) -> list[str]:
    """Check that the context holds the passages of a window, the template and the output."""
    context_tokens, output_tokens = config.engine.max_model_len, config.generation.max_tokens
    window, passage_tokens = config.strategy.max_window, config.prompt.max_passage_tokens
    tokens_per_passage = (context_tokens - output_tokens) // window
    if tokens_per_passage < _MIN_PASSAGE_TOKENS:
        raise ConfigError(
            f"engine.max_model_len {context_tokens} minus generation.max_reasoning_tokens + max_answer_tokens"
            f" {output_tokens} leaves {max(tokens_per_passage, 0)} tokens for each of {window} passages;"
            " raise the context, or lower the reasoning budget or the window"
        )
    if tokens_per_passage < passage_tokens:
        return [
            f"a window of {window} passages of prompt.max_passage_tokens {passage_tokens} does not fit the context"
            f" with {output_tokens} output tokens: long passages are shortened evenly, to fewer than"
            f" {tokens_per_passage} tokens, which shortened_to_tokens in the output records"
        ]
    return []
