"""Config section `generation`."""

from pydantic import Field

from corpus_reranker.answers.base import AnswerParser
from corpus_reranker.section import Section
from corpus_reranker.types import SamplingParams


class GenerationConfig(Section):
    """Sampling of a window's completion.

    The authors of ReasonRank (run_rank_llm.py) use temperature 0 for 7B and 32B, and temperature 0.6, top_p 0.95,
    top_k 20 for 8B.
    """

    temperature: float = Field(0.0, ge=0, description="Sampling temperature. 0 is greedy decoding.")
    top_p: float = Field(1.0, gt=0, le=1, description="Cumulative probability for nucleus sampling. 1 disables it.")
    top_k: int = Field(0, ge=0, description="Sample from this many most likely tokens. 0: all tokens.")
    min_p: float = Field(
        0.0, ge=0, le=1, description="Minimum probability of a token, relative to the most likely token."
    )
    max_reasoning_tokens: int = Field(3072, ge=0, description="Token budget of the reasoning.")
    max_answer_tokens: int = Field(
        100, ge=1, description="Token budget of the answer. max_tokens of a request is the sum of both budgets."
    )
    stop_at_answer_end: bool = Field(
        True, description="Stop at the end of the answer section (`</answer>`), if the answer format has one."
    )
    close_reasoning: bool = Field(
        False,
        description="Close reasoning that is still open after max_reasoning_tokens, so that the model gives its answer "
        "(finish_reason `capped`). vLLM does this within the request if `<think>` and `</think>` are single tokens "
        "of the model (Qwen3); otherwise the job sends a second request. If false, as in ReasonRank's code, such a "
        "window is `truncated` and requested again.",
    )
    seed: int = Field(0, description="Base seed. The seed of each request is derived from it.")

    @property
    def max_tokens(self) -> int:
        """Token budget of a completion."""
        return self.max_reasoning_tokens + self.max_answer_tokens

    def sampling_params(self, parser: AnswerParser) -> SamplingParams:
        """Sampling parameters of a window's first attempt, for answers that `parser` reads."""
        stop = parser.stop if self.stop_at_answer_end else ()
        return SamplingParams(self.temperature, self.top_p, self.top_k, self.min_p, self.max_tokens, self.seed, stop)
