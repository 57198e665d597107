"""The bodies of requests, and the completions in responses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus_reranker.engines.openai.settings import OpenAISettings, ServerFeatures
from corpus_reranker.errors import RequestError
from corpus_reranker.types import Completion, Prompt, SamplingParams

_TOKEN_ID = "token_id:"  # noqa: S105
"""Prefix of vLLM's tokens with return_tokens_as_token_ids (vllm/entrypoints/openai/completion/serving.py)."""

_ALL_TOKENS = -1
"""top_k that samples from all tokens, in both vLLM and SGLang. SGLang refuses 0."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the server counts, and a paid server bills. `prompt_tokens` includes the cached tokens."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.output_tokens + other.output_tokens,
        )


def request_body(
    settings: OpenAISettings, server: ServerFeatures, prompt: Prompt, params: SamplingParams
) -> dict[str, Any]:
    """The body of the request for one completion, in the form of the endpoint's `api`.

    A server that knows the parameters of vLLM and SGLang gets all of them, because its defaults can come from the
    model's generation_config.json. Another server gets parameters that OpenAI lacks only if they have an effect.

    Raises:
        RequestError: The chat API cannot continue the response that the prompt begins.
    """
    if settings.api == "chat":
        body = _chat_body(prompt, params, server)
    else:
        body = _completions_body(settings, prompt, params, server)
    extended = server.regex is not None or server.stop_in_text
    body |= {"model": settings.model, "temperature": params.temperature, "top_p": params.top_p}
    body |= {"top_k": params.top_k or _ALL_TOKENS} if params.top_k > 0 or extended else {}
    body |= {"min_p": params.min_p} if params.min_p > 0 or extended else {}
    body |= {"repetition_penalty": 1.0} if extended else {}
    body |= {"seed": params.seed} if params.temperature > 0 else {}
    if params.regex is not None and server.regex is not None:
        body[server.regex] = {"regex": params.regex} if server.regex == "structured_outputs" else params.regex
    return {name: value for name, value in (body | settings.extra_body).items() if name not in settings.omit}


def _chat_body(prompt: Prompt, params: SamplingParams, server: ServerFeatures) -> dict[str, Any]:
    """The body has no stop strings: a chat ends by itself, and cannot continue after one inside the reasoning."""
    if prompt.chat is None:
        raise RequestError("the chat API cannot continue a response; use engine.api: completions")
    limit = "max_completion_tokens" if server.max_completion_tokens else "max_tokens"
    messages = [{"role": role, "content": content} for role, content in prompt.chat.messages]
    kwargs = dict(prompt.chat.template_kwargs)
    return {"messages": messages, limit: params.max_tokens} | ({"chat_template_kwargs": kwargs} if kwargs else {})


def _completions_body(
    settings: OpenAISettings, prompt: Prompt, params: SamplingParams, server: ServerFeatures
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": list(prompt.token_ids) if settings.capabilities.token_ids and server.token_ids else prompt.text,
        "max_tokens": params.max_tokens,
    }
    if params.stop and server.stop_in_text:  # otherwise the closing tag of an answer would be cut
        body |= {"stop": list(params.stop), "include_stop_str_in_output": True}
    if prompt.choices and server.choice_logprobs:
        body |= {"logprobs": 1, "logprob_token_ids": list(prompt.choices), "return_tokens_as_token_ids": True}
    return body


def completion_of(response: Mapping[str, Any], choices: Sequence[int] = ()) -> Completion:
    """The completion in a response of either API.

    Reasoning that the server separated from a chat message is put back before the answer, in think tags.

    Raises:
        RequestError: The response has no completion.
    """
    usage = usage_of(response)
    try:
        choice = response["choices"][0]
        message = choice.get("message")
        text = choice.get("text") if message is None else _message_text(message, choice.get("finish_reason"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RequestError(f"the response has no completion: {str(response)[:200]}") from None
    finish_reason = "length" if choice.get("finish_reason") == "length" else "stop"
    logprobs = choice_logprobs(choice, choices) if choices else ()
    return Completion(text or "", finish_reason, usage.prompt_tokens, usage.output_tokens, logprobs)


def usage_of(response: Mapping[str, Any]) -> Usage:
    """The tokens of a response; 0 for tokens that the server does not count."""
    usage = response.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        usage.get("prompt_tokens") or 0, details.get("cached_tokens") or 0, usage.get("completion_tokens") or 0
    )


def _message_text(message: Mapping[str, Any], finish_reason: str | None) -> str:
    content = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(reasoning, str):
        return content
    is_open = finish_reason == "length" and not content
    return f"<think>{reasoning}" if is_open else f"<think>{reasoning}</think>{content}"


def choice_logprobs(choice: Mapping[str, Any], token_ids: Sequence[int]) -> tuple[float, ...]:
    """The log-probabilities of `token_ids` as the first token; empty if the response lacks one of them."""
    first = ((choice.get("logprobs") or {}).get("top_logprobs") or [{}])[0] or {}
    logprobs = [first.get(f"{_TOKEN_ID}{token_id}", math.nan) for token_id in token_ids]
    return () if any(math.isnan(logprob) for logprob in logprobs) else tuple(logprobs)
