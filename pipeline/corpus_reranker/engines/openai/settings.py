"""The `engine` section for endpoints that speak OpenAI's API."""

import asyncio
import os
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from corpus_reranker.engines.base import EngineCapabilities, EngineSettings
from corpus_reranker.engines.prices import BILLED, TokenPrices
from corpus_reranker.errors import ConfigError, EngineStartError
from corpus_reranker.prompts.tokenizer import WORDS
from corpus_reranker.section import Section


class ServerFeatures(Section):
    """Features of a server beyond plain requests, and the tokens of the requests that detected them."""

    token_ids: bool = Field(False, description="Completions: the prompt may be token ids.")
    stop_in_text: bool = Field(False, description="Completions: the text can include the stop string.")
    choice_logprobs: bool = Field(False, description="Completions: log-probabilities of given token ids.")
    regex: Literal["structured_outputs", "regex"] | None = Field(
        None, description="Request parameter for output that matches a regular expression, of vLLM or of SGLang."
    )
    max_completion_tokens: bool = Field(
        False, description="Chat: the server refuses max_tokens and takes max_completion_tokens."
    )
    prompt_tokens: int = Field(0, ge=0, description="Prompt tokens of the probe.")
    cached_prompt_tokens: int = Field(0, ge=0, description="Prompt tokens of the probe in the server's cache.")
    output_tokens: int = Field(0, ge=0, description="Output tokens of the probe.")


class OpenAISettings(EngineSettings):
    """One or several endpoints with OpenAI's API that serve the same model. Replicas need no GPU."""

    speed_only: ClassVar[frozenset[str]] = frozenset(
        {
            "base_urls",
            "api_key_env",
            "max_num_seqs",
            "max_requests_per_minute",
            "max_tokens_per_minute",
            "request_timeout_seconds",
            "max_outage_seconds",
            "prices",
            "server",
        }
    )

    kind: Literal["openai"] = Field("openai", description="An endpoint with OpenAI's API.")
    model: str = Field(description="Name under which the endpoint serves the model.")
    base_urls: tuple[str, ...] = Field(
        description="URLs up to and including /v1. Each request goes to the least loaded endpoint."
    )
    api: Literal["chat", "completions"] = Field(
        "chat",
        description="chat: the server applies its chat template. completions: the prompt is rendered here, with the "
        "chat template of `tokenizer`, and can include the beginning of the response.",
    )
    tokenizer: str | None = Field(
        None,
        description="Tokenizer that measures and truncates prompts: a folder, hub id or URL. None: with api chat, the "
        'built-in approximation "words"; with api completions, the tokenizer of the hub id or folder `model`.',
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        description="Environment variable with the key, on the driver and on every node. Unset: no key is sent.",
    )
    max_num_seqs: int = Field(
        256,
        ge=1,
        description="Maximum number of requests in flight at each endpoint. The engine finds how many the server "
        "accepts, up to this number.",
    )
    max_requests_per_minute: float | None = Field(
        None, gt=0, description="Limit of the whole run, divided by cluster.max_replicas. None: no limit."
    )
    max_tokens_per_minute: float | None = Field(
        None,
        gt=0,
        description="Limit of prompt and output tokens together, of the whole run, divided by cluster.max_replicas. "
        "None: no limit.",
    )
    request_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="A request without a response for this long counts as a lost connection and is sent again.",
    )
    max_outage_seconds: float = Field(
        300.0,
        gt=0,
        description="The engine is declared dead once no endpoint has answered for this long. Also the longest "
        "Retry-After that the engine waits for.",
    )
    hang_timeout_seconds: float = Field(
        1800.0,
        gt=0,
        description="The engine is declared dead after this time without any response while requests are in flight. "
        "Must be above request_timeout_seconds and max_outage_seconds, which detect a failure earlier.",
    )
    prices: TokenPrices | None = Field(
        None,
        description="Prices per million tokens: {prompt: P, cached_prompt: C, output: O}, in any currency. Without "
        "cached_prompt, cached tokens cost as much as others. None: the run shows tokens, but no cost.",
    )
    omit: tuple[str, ...] = Field(
        (), description="Request parameters to leave out because the server refuses them: temperature, seed, ..."
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Additional request parameters, such as reasoning_effort."
    )
    server: ServerFeatures | None = Field(
        None, description="Features of the server. None: a few small requests detect them when the run starts."
    )

    @property
    def tokenizer_source(self) -> str:
        return self.tokenizer or (WORDS if self.api == "chat" else self.model)

    @property
    def capabilities(self) -> EngineCapabilities:
        """Those of the server if it is known, otherwise those that a server with this API can have."""
        completions, server = self.api == "completions", self.server
        has_tokenizer = completions and self.tokenizer_source != WORDS
        return EngineCapabilities(
            token_ids=has_tokenizer and (server is None or server.token_ids),
            continuation=completions,
            regex=server is None or server.regex is not None,
            choice_logprobs=has_tokenizer and (server is None or server.choice_logprobs),
        )

    @property
    def api_key(self) -> str | None:
        """The key in the environment; None if it is not set."""
        return os.environ.get(self.api_key_env) or None

    @property
    def token_prices(self) -> TokenPrices | None:
        return self.prices

    @property
    def probe_counts(self) -> dict[str, int]:
        server = self.server
        if server is None:
            return {}
        tokens = (server.prompt_tokens, server.cached_prompt_tokens, server.output_tokens)
        return dict(zip(BILLED, tokens, strict=True))

    def probed(self) -> Self:
        """These settings with the features of the server at the endpoint in `server`."""
        if self.server is not None:
            return self
        from corpus_reranker.engines.openai.probe import probe_once

        try:
            server = asyncio.run(probe_once(self))
        except EngineStartError as error:
            if "RAY_ADDRESS" in os.environ:  # the nodes of the cluster may reach it
                return self
            raise ConfigError(str(error)) from None
        return self.model_copy(update={"server": server})

    @field_validator("base_urls", mode="before")
    @classmethod
    def _one_or_several(cls, urls: Any) -> Any:
        return (urls,) if isinstance(urls, str) else urls

    @field_validator("base_urls")
    @classmethod
    def _plain_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("give at least one URL")
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is not a URL of an endpoint; write http://host:port/v1")
            if parts.username or parts.password or parts.query:
                raise ValueError("a URL must not hold a key; put it into the variable that api_key_env names")
        return tuple(url.rstrip("/") for url in urls)

    @model_validator(mode="after")
    def _hang_timeout_is_longest(self) -> Self:
        if self.hang_timeout_seconds <= max(self.request_timeout_seconds, self.max_outage_seconds):
            raise ValueError("hang_timeout_seconds must be above request_timeout_seconds and max_outage_seconds")
        return self
