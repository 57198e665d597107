"""Sends requests to the configured endpoints with the openai client, and classifies every failure."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from corpus_reranker.engines.openai.failures import Failure, Fault, failure_of
from corpus_reranker.engines.openai.settings import OpenAISettings
from corpus_reranker.errors import ConfigError

if TYPE_CHECKING:
    import httpx2
    import openai

_CONNECT_SECONDS = 30.0
_SHOWN_CHARS = 200
_NO_KEY = "none"
"""The client requires a key. Servers without authentication ignore it."""


class FailedRequestError(Exception):
    """A request failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class EndpointClient:
    """Sends each request once. The engine retries."""

    def __init__(self, settings: OpenAISettings, transport: "httpx2.AsyncBaseTransport | None" = None) -> None:
        """Create one client for each URL. `transport` replaces the network in tests.

        Raises:
            ConfigError: The openai package is missing.
        """
        try:
            import httpx2
            from openai import AsyncOpenAI
        except ImportError as error:
            raise ConfigError(
                f"engine.kind openai needs the openai package ({error}); pip install 'corpus-reranker[openai]'"
            ) from None
        self._settings = settings
        self._path = "/chat/completions" if settings.api == "chat" else "/completions"
        timeout_seconds = settings.request_timeout_seconds
        timeout = httpx2.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=settings.max_num_seqs)
        self._clients: dict[str, openai.AsyncOpenAI] = {
            url: AsyncOpenAI(
                base_url=url,
                api_key=settings.api_key or _NO_KEY,
                max_retries=0,
                timeout=timeout,
                http_client=httpx2.AsyncClient(transport=transport, timeout=timeout, limits=limits),
            )
            for url in settings.base_urls
        }

    async def complete(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send one request and return the body of the response. Raises FailedRequestError."""
        request = self._clients[url].post(self._path, body=dict(body), cast_to=object)
        response = await self._send(url, request)
        if not isinstance(response, dict) or not response.get("choices"):
            reason = f"{url}: the response has no completion: {str(response)[:_SHOWN_CHARS]}"
            raise FailedRequestError(Failure(Fault.SERVER, reason))
        return response

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    async def _send(self, url: str, request: Any) -> Any:
        from openai import APIError

        seconds = self._settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await request
        except (APIError, TimeoutError) as error:
            # not chained: the message of the original error may contain the key
            raise FailedRequestError(failure_of(error, url, self._settings.api_key, seconds)) from None
