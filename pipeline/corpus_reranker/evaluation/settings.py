"""Config section of the evaluate command."""

from pydantic import Field

from corpus_reranker.section import Section


class EvaluateConfig(Section):
    """Measures and statistics of an evaluation."""

    qrels: str = Field(description="TREC qrels file, local or s3://, plain or .gz.")
    measures: tuple[str, ...] = Field(("nDCG@10", "RR@10", "AP", "Judged@10"), min_length=1)
    baseline: str | None = Field(None, description="Compare every system with this one; None: every pair.")
    resamples: int = Field(10_000, ge=100, description="Resamples of the bootstrap, and of the randomisation test.")
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: int = 0
    json_path: str | None = Field(None, description="File for the full result as JSON, per-query values included.")
    csv_path: str | None = Field(None, description="File for one CSV row per system, query and measure.")
