"""The last request for a window without a ranking: structured output that can only be a ranking."""

import re
from collections.abc import Sequence
from dataclasses import replace

from corpus_reranker.answers.base import ForcedRequest
from corpus_reranker.answers.continuation import append_text
from corpus_reranker.answers.tags import CLOSE_REASONING, THINK_CLOSE
from corpus_reranker.types import Encode, Prompt, SamplingParams

FORCED = "forced"
"""Finish reason of a completion that could only be a ranking."""

_TOKENS_PER_IDENTIFIER = 8
"""Upper bound: "[20] > " takes 4 to 6 tokens."""


def force_ranking(prompt: Prompt, params: SamplingParams, names: Sequence[str]) -> ForcedRequest:
    """Build a request with the same prompt, and a regex that matches as many identifiers as there are `names`.

    The regex allows duplicates; a regex without them would grow exponentially.
    """
    name = "(" + "|".join(map(re.escape, names)) + ")"
    regex = rf"\[{name}\]( > \[{name}\]){{{len(names) - 1}}}"
    max_tokens = _TOKENS_PER_IDENTIFIER * len(names)
    forced = replace(params, regex=regex, max_tokens=max_tokens, max_reasoning_tokens=None, stop=())
    return ForcedRequest(prompt, forced)


def force_ranking_after_reasoning(
    prompt: Prompt, params: SamplingParams, response: str, names: Sequence[str], encode: Encode
) -> ForcedRequest:
    """Build a request whose prompt ends with the closed reasoning of `response`, and the regex of `force_ranking`.

    The reasoning is truncated so that the request takes no more tokens than the first one.
    """
    forced = force_ranking(prompt, params, names)
    closed = THINK_CLOSE.search(response)
    reasoning = response[: closed.start()] if closed else response
    max_prompt_tokens = len(prompt.token_ids) + params.max_tokens - forced.params.max_tokens
    extended = append_text(prompt, reasoning + CLOSE_REASONING, encode)
    while reasoning and len(extended.token_ids) > max_prompt_tokens:
        reasoning = reasoning[: len(reasoning) * 9 // 10]
        extended = append_text(prompt, reasoning + CLOSE_REASONING, encode)
    return replace(forced, prompt=extended, prefix=reasoning + CLOSE_REASONING)
