"""What an endpoint charges for tokens."""

from collections.abc import Mapping

from pydantic import Field

from corpus_reranker.section import Section

BILLED = ("billed_prompt_tokens", "billed_cached_prompt_tokens", "billed_output_tokens")
"""Counts of the tokens that an endpoint bills. The first includes the second."""


class TokenPrices(Section):
    """Prices per million tokens, in any currency. All amounts of money in a job are in this currency."""

    prompt: float = Field(ge=0, description="Price of a million prompt tokens.")
    cached_prompt: float | None = Field(
        None, ge=0, description="Price of a million prompt tokens that the server found in its cache. None: `prompt`."
    )
    output: float = Field(ge=0, description="Price of a million output tokens, reasoning included.")

    def cost(self, counts: Mapping[str, int]) -> float:
        """The price of the tokens that `counts` holds under the names in BILLED. Other counts cost nothing."""
        prompt_tokens, cached_tokens, output_tokens = (counts.get(name, 0) for name in BILLED)
        return self.price(prompt_tokens, output_tokens, cached_tokens)

    def price(self, prompt_tokens: float, output_tokens: float, cached_tokens: float = 0) -> float:
        """The price of tokens. `cached_tokens` is the number of prompt tokens that the server found in its cache."""
        cached_price = self.prompt if self.cached_prompt is None else self.cached_prompt
        price = (prompt_tokens - cached_tokens) * self.prompt + cached_tokens * cached_price
        return (price + output_tokens * self.output) / 1e6
