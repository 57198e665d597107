"""Config section `estimate`."""

from pathlib import Path

from pydantic import Field, model_validator

from corpus_reranker.section import Section


class EstimateConfig(Section):
    """Assumptions of an estimate. Without rates, it has windows and tokens, but no time and price."""

    replicas: int | None = Field(
        None, ge=1, description="Number of replicas. None: the maximum of the section `cluster`."
    )
    windows_per_second: float | None = Field(
        None, gt=0, description="Windows that one replica finishes per second at full load."
    )
    prompt_tokens_per_second: float | None = Field(
        None, gt=0, description="Prefill rate of one replica at full load. Needs output_tokens_per_second."
    )
    output_tokens_per_second: float | None = Field(
        None, gt=0, description="Decode rate of one replica at full load. Needs prompt_tokens_per_second."
    )
    output_tokens_mean: float | None = Field(
        None, ge=0, description="Mean output tokens of a window, over all its attempts."
    )
    measured: str | None = Field(
        None,
        description="Output of an earlier run from which to take the output lengths and, for the curve of a budget, "
        "the stability after each window.",
    )
    sample_queries: int = Field(200, ge=0, description="Number of queries whose prompts are tokenized. 0: all queries.")
    json_path: Path | None = Field(None, description="File for the full estimate as JSON.")

    @model_validator(mode="after")
    def _one_source_each(self) -> "EstimateConfig":
        tokens = (self.prompt_tokens_per_second, self.output_tokens_per_second)
        if self.windows_per_second is not None and tokens != (None, None):
            raise ValueError("give windows_per_second, or prompt_ and output_tokens_per_second, not both")
        if self.windows_per_second is None and tokens.count(None) == 1:
            raise ValueError("give both prompt_tokens_per_second and output_tokens_per_second")
        if self.output_tokens_mean is not None and self.measured is not None:
            raise ValueError("give output_tokens_mean or measured, not both")
        return self
