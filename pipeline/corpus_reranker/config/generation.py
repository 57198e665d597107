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

    temperature: float = Field(0.0, ge=0, description="Sampling temperature; 0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling.")
    top_k: int = Field(0, ge=0, description="Sample among the most likely tokens only; 0: all tokens.")
    min_p: float = Field(0.0, ge=0, le=1, description="Minimum probability relative to the most likely token.")
    max_reasoning_tokens: int = Field(3072, ge=0, description="Token budget of the reasoning.")
    max_answer_tokens: int = Field(100, ge=1, description="Token budget of the answer, on top of the reasoning's.")
    stop_at_answer_end: bool = Field(
        True, description="Stop at the end of the answer section, if the answer format has one."
    )
    close_reasoning: bool = Field(
        False,
        description="Close reasoning that is still open after max_reasoning_tokens, so that the model answers "
        "(finish_reason `capped`). vLLM does so within the request if <think> and </think> are single tokens of the "
        "model (Qwen3); otherwise a second request does. Off, as with ReasonRank's authors, such a window is truncated "
        "and requested again.",
    )
    seed: int = Field(0, description="Base of the seeds of all requests.")

    @property
    def max_tokens(self) -> int:
        """Token budget of a completion."""
        return self.max_reasoning_tokens + self.max_answer_tokens

    def sampling_params(self, parser: AnswerParser) -> SamplingParams:
        """Sampling parameters of a window's first attempt, for answers that `parser` reads."""
        stop = parser.stop if self.stop_at_answer_end else ()
        return SamplingParams(self.temperature, self.top_p, self.top_k, self.min_p, self.max_tokens, self.seed, stop)
