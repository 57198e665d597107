"""Answer format `after_reasoning`: the ranking after reasoning that the prompt or the chat template begins.

The response shows only the end of such reasoning, so a response without it has no answer yet.
"""

import re

from corpus_reranker.answers.tags import last_end
from corpus_reranker.answers.text_parser import Section, TextParser
from corpus_reranker.types import Completion

_REASONING_END = re.compile(r"</think>|(?:\A|assistant)final", re.IGNORECASE)
"""gpt-oss ends its reasoning with `<|end|><|start|>assistant<|channel|>final<|message|>`. vLLM's text keeps only the
words of these tokens. The prompt template for gpt-oss escapes the words in passages."""


class AfterReasoningParser(TextParser):
    """Reads the text after the end of the reasoning."""

    def answer_section(self, completion: Completion) -> Section | None:
        end = last_end(_REASONING_END, completion.text)
        return None if end is None else (end, len(completion.text))
