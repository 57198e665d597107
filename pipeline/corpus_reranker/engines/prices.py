"""What an endpoint charges for tokens."""

from pydantic import Field

from corpus_reranker.section import Section


class TokenPrices(Section):
    """Prices per million tokens, in any currency. Every amount of money in the job has the same currency."""

    prompt: float = Field(ge=0, description="Price of a million prompt tokens.")
    cached_prompt: float | None = Field(
        None, ge=0, description="Price of a million prompt tokens that the server found in its cache. None: `prompt`."
    )
    output: float = Field(ge=0, description="Price of a million output tokens, reasoning included.")

    def cost(self, prompt_tokens: int, cached_prompt_tokens: int, output_tokens: int) -> float:
        """The price of these tokens. `prompt_tokens` includes the cached ones."""
        cached_price = self.prompt if self.cached_prompt is None else self.cached_prompt
        uncached = (prompt_tokens - cached_prompt_tokens) * self.prompt
        return (uncached + cached_prompt_tokens * cached_price + output_tokens * self.output) / 1e6
