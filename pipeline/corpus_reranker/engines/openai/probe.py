"""Detects the features of a server with a few small requests."""

import asyncio
import math
import re
from collections.abc import Mapping
from typing import Any

from corpus_reranker.engines.openai.client import EndpointClient, FailedRequestError
from corpus_reranker.engines.openai.failures import Failure, Fault
from corpus_reranker.engines.openai.requests import Usage, choice_logprobs, usage_of
from corpus_reranker.engines.openai.settings import OpenAISettings, ServerFeatures
from corpus_reranker.errors import ConfigError, EngineStartError

_MAX_ATTEMPTS = 3
"""Attempts of a request that a busy server refuses."""

_RETRY_SECONDS = 1.0
"""Delay before a retry if the server does not set one with Retry-After, which may be up to `max_outage_seconds`."""

_MAX_TOKENS = 16
"""Maximum number of output tokens of a request. Some hosted models refuse a smaller one."""

_TEXT = "Rank: [1] [2]"
_TOKEN_IDS = (5, 6, 7)
"""Token ids that every vocabulary has."""

_REGEX = r"\[7\] > \[3\] > \[5\]"
"""Matches an order that no model writes by itself: `_TEXT` has no passages 3, 5 and 7."""


async def probe_once(settings: OpenAISettings) -> ServerFeatures:
    """As `probe`, with a new client."""
    client = EndpointClient(settings)
    try:
        return await probe(settings, client)
    finally:
        await client.close()


async def probe(settings: OpenAISettings, client: EndpointClient) -> ServerFeatures:
    """Find out what the server at the first endpoint can do. The other endpoints get a plain request each.

    Raises:
        ConfigError: Key, URL or model are wrong, or the server refuses a plain request.
        EngineStartError: The server cannot be reached, or is too busy.
    """
    return await _Probe(settings, client).run()


class _Probe:
    """The requests of one probe, with the sum of their tokens."""

    def __init__(self, settings: OpenAISettings, client: EndpointClient) -> None:
        self._settings = settings
        self._client = client
        self._usage = Usage()

    async def run(self) -> ServerFeatures:
        features = await (self._chat() if self._settings.api == "chat" else self._completions())
        limit = length_limit(ServerFeatures(**features))
        features["regex"] = await self._regex(limit)
        for url in self._settings.base_urls[1:]:
            self._require(await self._request(limit, url), {})
        usage = self._usage
        return ServerFeatures(
            **features,
            prompt_tokens=usage.prompt_tokens,
            cached_prompt_tokens=usage.cached_prompt_tokens,
            output_tokens=usage.output_tokens,
        )

    async def _chat(self) -> dict[str, Any]:
        failure = await self._request({"max_tokens": _MAX_TOKENS})
        if isinstance(failure, Failure) and "max_completion_tokens" in failure.reason:
            failure = await self._request({"max_completion_tokens": _MAX_TOKENS})
            return self._require(failure, {"max_completion_tokens": True})
        return self._require(failure, {})

    async def _completions(self) -> dict[str, Any]:
        choices = {"logprobs": 1, "logprob_token_ids": list(_TOKEN_IDS), "return_tokens_as_token_ids": True}
        full = await self._request({"prompt": list(_TOKEN_IDS), "max_tokens": 1, **choices})
        if not isinstance(full, Failure):
            token_ids = usage_of(full).prompt_tokens == len(_TOKEN_IDS)
            logprobs = choice_logprobs(full["choices"][0], _TOKEN_IDS)
            has_logprobs = bool(logprobs) and not any(map(math.isnan, logprobs))  # only vLLM's servers return them
            return {"token_ids": token_ids, "choice_logprobs": has_logprobs, "stop_in_text": has_logprobs}
        plain = await self._request({"prompt": list(_TOKEN_IDS), "max_tokens": 1})
        if not isinstance(plain, Failure):
            return {"token_ids": usage_of(plain).prompt_tokens == len(_TOKEN_IDS)}
        return self._require(await self._request({"max_tokens": 1}), {})

    async def _regex(self, limit: Mapping[str, int]) -> str | None:
        for name, value in (("structured_outputs", {"regex": _REGEX}), ("regex", _REGEX)):
            response = await self._request({**limit, name: value})
            if not isinstance(response, Failure) and re.match(_REGEX, _text(response)):
                return name
        return None

    def _require(self, response: Mapping[str, Any] | Failure, features: dict[str, Any]) -> dict[str, Any]:
        if isinstance(response, Failure):
            raise ConfigError(f"the endpoint refuses a plain request: {response.reason}; see engine.omit")
        return features

    async def _request(self, changes: Mapping[str, Any], url: str | None = None) -> Mapping[str, Any] | Failure:
        """Send a request, up to 3 times if the server is busy. Returns the response, or why the server refuses it."""
        body = plain_body(self._settings, changes)
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                response = await self._client.complete(url or self._settings.base_urls[0], body)
            except FailedRequestError as error:
                failure = error.failure
            else:
                self._usage += usage_of(response)
                return response
            if failure.fault is Fault.SETTINGS:
                raise ConfigError(f"{failure.reason}; {settings_advice(self._settings, failure)}")
            if failure.fault is Fault.REQUEST:
                return failure
            wait_seconds = failure.retry_after_seconds or _RETRY_SECONDS
            if attempt == _MAX_ATTEMPTS or wait_seconds > self._settings.max_outage_seconds:
                break
            await asyncio.sleep(wait_seconds)
        if failure.status is not None and not failure.is_refusal:
            return failure  # some servers answer 500 to a parameter that they do not know
        raise EngineStartError(f"cannot reach the endpoint: {failure.reason}; start it or set engine.base_urls")


def plain_body(settings: OpenAISettings, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a small request without options, with `changes`."""
    is_chat = settings.api == "chat"
    text = {"messages": [{"role": "user", "content": _TEXT}]} if is_chat else {"prompt": _TEXT}
    body = {"model": settings.model, "temperature": 0.0, **text, **changes, **settings.extra_body}
    return {name: value for name, value in body.items() if name not in settings.omit}


def length_limit(server: ServerFeatures) -> dict[str, int]:
    """The parameter that limits the output tokens of a small request."""
    return {"max_completion_tokens" if server.max_completion_tokens else "max_tokens": _MAX_TOKENS}


def settings_advice(settings: OpenAISettings, failure: Failure) -> str:
    """How to fix wrong settings."""
    if failure.status == 404:
        return f"set engine.model, now {settings.model}, to a model served there, and end engine.base_urls with /v1"
    state = "holds a key that is refused" if settings.api_key else "is not set"
    return f"the environment variable {settings.api_key_env} (engine.api_key_env) {state}"


def _text(response: Mapping[str, Any]) -> str:
    choice = response["choices"][0]
    message = choice.get("message")
    return str((choice.get("text") if message is None else message.get("content")) or "")
