"""Completions from endpoints with OpenAI's API. Server failures are retried here, so they cost a window no attempt."""

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.engines.openai.client import EndpointClient, FailedRequestError
from corpus_reranker.engines.openai.endpoints import Endpoint, EndpointPool
from corpus_reranker.engines.openai.failures import Failure, Fault, backoff_seconds
from corpus_reranker.engines.openai.probe import length_limit, plain_body, probe, settings_advice
from corpus_reranker.engines.openai.rate_limit import RateLimit
from corpus_reranker.engines.openai.requests import Usage, completion_of, request_body, usage_of
from corpus_reranker.engines.openai.settings import OpenAISettings, ServerFeatures
from corpus_reranker.engines.prices import BILLED
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.types import Completion, Prompt, SamplingParams

if TYPE_CHECKING:
    import httpx2

_MAX_FAILURES = 5
"""After this many failures while the endpoint answers other requests, the request itself is considered to be at fault.
Refusals (429, 503) do not count."""

_MEAN_REQUESTS = 16
"""Number of requests in the running mean of output lengths."""


class OpenAIEngine:
    """Sends each prompt to the least loaded endpoint until one answers. `generate` needs a started engine."""

    settings_class: ClassVar[type[EngineSettings]] = OpenAISettings

    def __init__(
        self,
        settings: OpenAISettings,
        context: EngineContext | None = None,
        transport: "httpx2.AsyncBaseTransport | None" = None,
    ) -> None:
        """`transport` replaces the network in tests."""
        self._settings = settings
        self._context = context or EngineContext()
        self._client: EndpointClient | None = None
        self._transport = transport
        self._server = settings.server or ServerFeatures()
        self._pool = EndpointPool(settings.base_urls, settings.max_num_seqs, settings.max_outage_seconds)
        self._request_rate = _rate_limit(settings.max_requests_per_minute, self._context.replicas)
        self._token_rate = _rate_limit(settings.max_tokens_per_minute, self._context.replicas)
        self._rate_lock = asyncio.Lock()
        self._mean_output_tokens = 0.0
        self._rng = random.Random(0)
        self._num_outcomes = 0

    @property
    def capabilities(self) -> EngineCapabilities:
        return self._settings.capabilities

    async def start(self) -> None:
        """Wait until an endpoint answers, and find out what it can do if the driver did not.

        Raises:
            ConfigError: Key, URL or model are wrong.
            EngineStartError: No endpoint answers for `max_outage_seconds`.
        """
        self._client = EndpointClient(self._settings, self._transport)
        await self._wait_for_endpoint(self._client)
        if self._settings.server is None:
            self._server = await probe(self._settings, self._client)
            self._settings = self._settings.model_copy(update={"server": self._server})
            for name, amount in self._settings.probe_counts.items():
                self._context.count(name, amount)

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Answer one prompt. Cancelling the call closes its connection, at which most servers abort the request.

        Raises:
            RequestError: The server refuses this request, or fails on it alone.
            EngineDeadError: No endpoint answers, or key, URL or model are refused.
        """
        if self._client is None:
            raise EngineDeadError("the openai engine is not running")
        body = request_body(self._settings, self._server, prompt, params)
        response = await self._complete(self._client, body, len(prompt.token_ids))
        return completion_of(response, prompt.choices)

    def progress(self) -> int:
        """Responses and failures so far."""
        return self._num_outcomes

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def info(self) -> dict[str, Any]:
        """Model, endpoints and their features. `concurrency` is the number of requests that they accept at once."""
        settings = self._settings
        return {
            "engine": "openai",
            "simulated": False,
            "model": settings.model,
            "api": settings.api,
            "endpoints": list(settings.base_urls),
            "server": self._server.model_dump(mode="json"),
            "max_model_len": settings.max_model_len,
            "max_num_seqs": settings.max_num_seqs,
            "concurrency": self._pool.concurrency,
        }

    async def _complete(self, client: EndpointClient, body: Mapping[str, Any], prompt_tokens: int) -> Mapping[str, Any]:
        """Send a request until an endpoint answers it, and return the response.

        At the latest, the caller's timeout (`policy.window_timeout_seconds`) cancels the loop.
        """
        failures, own_failures, answers_before = 0, 0, self._pool.answers
        while True:
            expected_tokens = prompt_tokens + self._mean_output_tokens
            await self._wait_for_rate(expected_tokens)
            async with self._pool.slot() as (endpoint, sent_at):
                try:
                    response = await client.complete(endpoint.url, body)
                except FailedRequestError as error:
                    failure = error.failure
                    self._charge(Usage(), expected_tokens)
                    self._handle(endpoint, sent_at, failure)
                else:
                    self._num_outcomes += 1
                    self._pool.answered(endpoint)
                    usage = usage_of(response)
                    self._mean_output_tokens += (usage.output_tokens - self._mean_output_tokens) / _MEAN_REQUESTS
                    self._count(usage)
                    self._charge(usage, expected_tokens)
                    return response
            failures += 1
            own_failures += not failure.is_refusal and self._pool.answers > answers_before
            answers_before = self._pool.answers
            if own_failures >= _MAX_FAILURES:
                raise RequestError(f"failed {own_failures} times while the endpoint answered others: {failure.reason}")
            await asyncio.sleep(backoff_seconds(failures, self._rng))

    def _handle(self, endpoint: Endpoint, sent_at: float, failure: Failure) -> None:
        """Raise unless the request may be sent again."""
        self._num_outcomes += 1
        if failure.fault is Fault.SETTINGS:
            raise EngineDeadError(f"{failure.reason}; {settings_advice(self._settings, failure)}")
        if failure.fault is Fault.REQUEST:
            self._pool.answered(endpoint)
            raise RequestError(failure.reason)
        self._context.count("requests_refused" if failure.is_refusal else "requests_lost", 1)
        self._pool.failed(endpoint, sent_at, failure)

    async def _wait_for_rate(self, expected_tokens: float) -> None:
        """Wait, in order of arrival, until the rate limits allow another request, and charge it."""
        limits = [limit for limit in (self._request_rate, self._token_rate) if limit is not None]
        if not limits:
            return
        clock = asyncio.get_running_loop().time
        async with self._rate_lock:
            while (seconds := max(limit.wait_seconds(clock()) for limit in limits)) > 0:  # noqa: ASYNC110
                await asyncio.sleep(seconds)
            if self._request_rate is not None:
                self._request_rate.charge(1.0, clock())
            if self._token_rate is not None:
                self._token_rate.charge(expected_tokens, clock())

    def _charge(self, usage: Usage, expected_tokens: float) -> None:
        """Replace the expected tokens, with which the token rate was charged, by the actual ones."""
        if self._token_rate is not None:
            tokens = usage.prompt_tokens + usage.output_tokens
            self._token_rate.charge(tokens - expected_tokens, asyncio.get_running_loop().time())

    def _count(self, usage: Usage) -> None:
        tokens = (usage.prompt_tokens, usage.cached_prompt_tokens, usage.output_tokens)
        for name, amount in zip(BILLED, tokens, strict=True):
            self._context.count(name, amount)

    async def _wait_for_endpoint(self, client: EndpointClient) -> None:
        """Wait until an endpoint answers a small request.

        A replica that is restarted after an outage waits here, before it has any query.

        Raises:
            ConfigError: Key, URL or model are wrong.
            EngineStartError: None answers for `max_outage_seconds`.
        """
        loop = asyncio.get_running_loop()
        deadline, failures, reasons = loop.time() + self._settings.max_outage_seconds, 0, [""]
        while loop.time() < deadline:
            reasons = await asyncio.gather(*(self._unavailable(client, url) for url in self._settings.base_urls))
            if not all(reasons):
                return
            failures += 1
            await asyncio.sleep(min(backoff_seconds(failures, self._rng), max(deadline - loop.time(), 0.0)))
        seconds = self._settings.max_outage_seconds
        raise EngineStartError(f"no endpoint answered for {seconds:g} s (engine.max_outage_seconds); {reasons[0]}")

    async def _unavailable(self, client: EndpointClient, url: str) -> str:
        """Why the endpoint does not answer; empty if it does. Raises ConfigError if key, URL or model are wrong."""
        try:
            response = await client.complete(url, plain_body(self._settings, length_limit(self._server)))
        except FailedRequestError as error:
            failure = error.failure
            if failure.fault is Fault.SETTINGS:
                raise ConfigError(f"{failure.reason}; {settings_advice(self._settings, failure)}") from None
            return failure.reason if failure.fault is Fault.SERVER else ""
        self._count(usage_of(response))
        return ""


def _rate_limit(per_minute: float | None, replicas: int) -> RateLimit | None:
    return None if per_minute is None else RateLimit(per_minute / replicas)
