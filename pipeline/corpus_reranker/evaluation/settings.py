"""Config section of the evaluate command."""

from pydantic import Field

from corpus_reranker.section import Section


class EvaluateConfig(Section):
    """How a run is judged."""

    qrels: str = Field(description="TREC qrels file, local or s3://, plain or .gz.")
    measures: tuple[str, ...] = Field(("nDCG@10", "RR@10", "AP", "Judged@10"), min_length=1)
    baseline: str | None = Field(None, description="Compare every system with this one; None: every pair.")
    resamples: int = Field(10_000, ge=100, description="Of the bootstrap and of the randomisation test, each.")
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: int = 0
    json_path: str | None = Field(None, description="Everything, per-query values included.")
    csv_path: str | None = Field(None, description="One row per system, query and measure.")
