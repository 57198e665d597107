"""The prompts of `rerank_query` without arguments: ReasonRank's, rendered without a model's tokenizer."""

from functools import cache

from corpus_reranker.paths import PROMPTS_DIRECTORY
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template, template_path
from corpus_reranker.prompts.tokenizer import WordsTokenizer

_MAX_PASSAGE_TOKENS = 512
_MAX_PROMPT_TOKENS = 32768 - 3172
"""The authors' settings: context minus reasoning (3,072) and answer (100)."""


@cache
def reasonrank_prompts() -> PromptBuilder:
    """A builder for the template `reasonrank`, with the word tokenizer that needs no files."""
    template = load_template(template_path("reasonrank", PROMPTS_DIRECTORY))
    return PromptBuilder(template, WordsTokenizer(), _MAX_PASSAGE_TOKENS, _MAX_PROMPT_TOKENS)
