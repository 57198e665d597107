"""Assemble the answer of a reasoning model from several completions: closed reasoning, then the ranking."""

from dataclasses import replace

from corpus_reranker.answers.tags import (
    ANSWER_END,
    ANSWER_OPEN,
    CLOSE_REASONING,
    THINK_CLOSE,
    THINK_OPEN,
    has_open_reasoning,
)
from corpus_reranker.types import Completion, Encode, Generate, Prompt, SamplingParams

CAPPED = "capped"
"""Finish reason of an answer whose reasoning was closed at its token limit."""

_MAX_REQUESTS = 32
"""Maximum number of requests for one answer. A model can repeat a draft of its answer, and some servers do not count
tokens. Without this bound, requests for such an answer would go on until the window's timeout."""


def continue_reasoning(generate: Generate, encode: Encode, max_reasoning_tokens: int | None = None) -> Generate:
    """Wrap `generate` so that a completion that stops before its answer is continued.

    A draft of the answer inside open reasoning ends a completion at the stop string; another request then continues
    the reasoning. Reasoning that is still open after `max_reasoning_tokens` is closed, and the remaining tokens are
    left for the ranking. The prompt of each continuation is the original prompt plus the text so far, most of which is
    in the prefix cache.

    Args:
        generate: The engine.
        encode: Maps a text to its token ids.
        max_reasoning_tokens: Token budget of the reasoning. None: reasoning can use all tokens of the request.

    Returns:
        A function whose completion holds the whole text and the tokens of all its requests, at most 32.
    """

    async def generate_answer(prompt: Prompt, params: SamplingParams) -> Completion:
        text, prompt_tokens, output_tokens, capped = "", 0, 0, False
        cap_tokens = min(max_reasoning_tokens or params.max_tokens, params.max_tokens)
        for _ in range(_MAX_REQUESTS):
            limit_tokens = params.max_tokens if _reasoning_ended(text) else cap_tokens
            request = prompt if not text else append_text(prompt, text, encode)
            completion = await generate(request, replace(params, max_tokens=limit_tokens - output_tokens))
            if completion.finish_reason == CAPPED:  # the engine has closed the reasoning
                completion, capped = replace(completion, finish_reason="stop"), True
            text += completion.text
            prompt_tokens += completion.prompt_tokens
            output_tokens += completion.output_tokens
            finished = completion.finish_reason == "stop" and not _ends_with_draft(text)
            context_full = completion.finish_reason == "length" and output_tokens < limit_tokens
            empty = not completion.text  # the next request would be the same
            if finished or context_full or empty or output_tokens >= params.max_tokens:
                break
            if output_tokens >= cap_tokens and not _reasoning_ended(text):
                text += CLOSE_REASONING
                capped = True
        return replace(
            completion,
            text=text,
            finish_reason=CAPPED if capped and completion.finish_reason == "stop" else completion.finish_reason,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
        )

    return generate_answer


def append_text(prompt: Prompt, text: str, encode: Encode) -> Prompt:
    """`prompt` followed by `text`, encoded as a whole."""
    return replace(prompt, text=prompt.text + text, token_ids=tuple(encode(prompt.text + text)), chat=None)


def _reasoning_ended(text: str) -> bool:
    """Whether the reasoning is closed, or the answer begins without any."""
    if THINK_CLOSE.search(text):
        return True
    return not THINK_OPEN.search(text) and ANSWER_OPEN.search(text) is not None


def _ends_with_draft(text: str) -> bool:
    return text.endswith(ANSWER_END) and has_open_reasoning(text)
