"""Config section of the evaluate command."""

from pydantic import Field

from corpus_reranker.section import Section


class EvaluateConfig(Section):
    """Measures and statistics of an evaluation."""

    qrels: str = Field(description="TREC qrels file, local or s3://, plain or .gz.")
    measures: tuple[str, ...] = Field(
        ("nDCG@10", "RR@10", "AP", "Judged@10"),
        min_length=1,
        description="Measures, in the notation of ir_measures: nDCG@10, AP(rel=2), R@100.",
    )
    baseline: str | None = Field(None, description="System to compare all others with. None compares every pair.")
    resamples: int = Field(10_000, ge=100, description="Resamples of the bootstrap and of the randomization test.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Confidence level of the bootstrap intervals.")
    seed: int = Field(0, description="Seed of the resampling.")
    allow_unfinished: bool = Field(False, description="Evaluate outputs of runs that have not finished.")
    json_path: str | None = Field(None, description="File for the full result as JSON, including per-query values.")
    csv_path: str | None = Field(
        None, description="File for the per-query values as CSV: one row per system, query and measure."
    )
