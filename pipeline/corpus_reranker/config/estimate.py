"""Config section `estimate`."""

from pathlib import Path

from pydantic import Field, model_validator

from corpus_reranker.section import Section


class EstimateConfig(Section):
    """Assumptions of an estimate. Without rates it gives windows and tokens only, no time and no price."""

    replicas: int | None = Field(None, ge=1, description="Replicas; None: the maximum of the cluster section.")
    windows_per_second: float | None = Field(None, gt=0, description="Rate of one replica at full load.")
    prompt_tokens_per_second: float | None = Field(
        None, gt=0, description="Prefill rate of one replica at full load; together with output_tokens_per_second."
    )
    output_tokens_per_second: float | None = Field(None, gt=0, description="Decode rate of one replica at full load.")
    output_tokens_mean: float | None = Field(None, ge=0, description="Output tokens per window over all attempts.")
    measured: str | None = Field(None, description="Output of an earlier run that gives the lengths of responses.")
    sample_queries: int = Field(200, ge=0, description="Queries whose prompts are tokenised; 0: all queries.")
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
