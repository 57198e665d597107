"""A reasoning model's whole answer, out of one completion or several: thoughts that end, then the ranking."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from corpus_reranker.answers.permutation import ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, AnswerFormat, has_open_reasoning
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams

ANSWER_END = "</answer>"
"""Where generation may stop: nothing behind it is read."""

CLOSE_REASONING = "\n</think>\n<answer>"
"""Put behind thoughts that took too long, so that what follows is the ranking."""

CAPPED = "capped"
"""Finish reason of an answer whose thoughts were closed for it."""

FORCED = "forced"
"""Finish reason of an answer of which the engine let through nothing but identifiers."""

_TOKENS_PER_IDENTIFIER = 8
"""Room for "[20] > ", which takes 4 to 6 tokens."""


def whole_answers(
    generate: Generate, encode: Callable[[str], Sequence[int]], max_reasoning_tokens: int | None = None
) -> Generate:
    """`generate` for a reasoning model: an answer that broke off before its end is gone on with.

    A draft of the answer inside open thoughts stops generation at its ANSWER_END; the model thinks on. Thoughts still
    open after `max_reasoning_tokens` (None: no cap but the request's own) are closed, and the rest of the request's
    tokens go to the ranking. All is asked anew with what was said behind the prompt, which a prefix cache holds.
    """

    async def generate_whole(prompt: Prompt, params: SamplingParams) -> Completion:
        text, prompt_tokens, output_tokens, capped = "", 0, 0, False
        cap_tokens = min(max_reasoning_tokens or params.max_tokens, params.max_tokens)
        while True:
            until = params.max_tokens if _reasoning_ended(text) else cap_tokens
            requested = prompt if not text else _continued(prompt, text, encode)
            completion = await generate(requested, replace(params, max_tokens=until - output_tokens))
            text += completion.text
            prompt_tokens += completion.prompt_tokens
            output_tokens += completion.output_tokens
            whole = completion.finish_reason == "stop" and not _is_draft(text)
            context_full = completion.finish_reason == "length" and output_tokens < until
            says_no_more = not completion.text  # a model that ends behind a draft would be asked for ever
            if whole or context_full or says_no_more or output_tokens >= params.max_tokens:
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

    return generate_whole


def force_ranking(
    prompt: Prompt,
    params: SamplingParams,
    response: str,
    names: Sequence[str],
    answer_format: AnswerFormat,
    encode: Callable[[str], Sequence[int]],
) -> tuple[Prompt, SamplingParams, str]:
    """What to ask where a `response` held no ranking of the passages with these `names`.

    The thoughts of a reasoning model are kept, as far as the request's tokens reach, and closed; of what follows the
    engine lets through nothing but as many names as there are. A name may come twice. Gives prompt, parameters, and
    the text that belongs before the completion's.
    """
    name = "(" + "|".join(map(re.escape, names)) + ")"
    regex = rf"\[{name}\]( > \[{name}\]){{{len(names) - 1}}}"
    max_tokens = _TOKENS_PER_IDENTIFIER * len(names)
    forced = replace(params, regex=regex, max_tokens=max_tokens, stop=())
    if answer_format != "reasoning":
        return prompt, forced, ""
    closed = THINK_CLOSE.search(response)
    reasoning_text = response[: closed.start()] if closed else response
    remaining_tokens = len(prompt.token_ids) + params.max_tokens - max_tokens
    requested = _continued(prompt, reasoning_text + CLOSE_REASONING, encode)
    while reasoning_text and len(requested.token_ids) > remaining_tokens:
        reasoning_text = reasoning_text[: len(reasoning_text) * 9 // 10]
        requested = _continued(prompt, reasoning_text + CLOSE_REASONING, encode)
    return requested, forced, reasoning_text + CLOSE_REASONING


def _continued(prompt: Prompt, text: str, encode: Callable[[str], Sequence[int]]) -> Prompt:
    return replace(prompt, text=prompt.text + text, token_ids=tuple(encode(prompt.text + text)))


def _reasoning_ended(text: str) -> bool:
    """Whether the thoughts are over, or there were none."""
    if THINK_CLOSE.search(text):
        return True
    return not THINK_OPEN.search(text) and ANSWER_OPEN.search(text) is not None


def _is_draft(text: str) -> bool:
    return text.endswith(ANSWER_END) and has_open_reasoning(text)
