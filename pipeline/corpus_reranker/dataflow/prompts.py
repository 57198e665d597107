"""The prompt builder of a reranker config."""

from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.engines.model_files import load_engine_tokenizer
from corpus_reranker.prompts.builder import PromptBuilder


def create_prompt_builder(config: RerankerConfig) -> PromptBuilder:
    """Load template, examples and tokenizer. Raises ConfigError if one is missing or the context is too small."""
    return PromptBuilder(
        config.prompt.load_template(),
        load_engine_tokenizer(config.engine, config.storage),
        config.prompt.max_passage_tokens,
        config.engine.max_model_len - config.generation.max_tokens,
        config.prompt.load_examples(),
    )
