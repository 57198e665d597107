"""Config section of the run report."""

from pydantic import Field

from corpus_reranker.section import Section


class ReportConfig(Section):
    """What the run report adds to what the output itself holds."""

    qrels: str | None = Field(None, description="TREC qrels file: shows nDCG@10 before and after.")
    price_per_gpu_hour: float | None = Field(None, ge=0)
    currency: str = "USD"
    gpus: int | None = Field(None, ge=0, description="Of the run; None: as its config says, at most.")
    sampled_windows: int = Field(5, ge=0, description="Prompts and answers shown in full.")
    listed_queries: int = Field(10, ge=0, description="Of the slowest, and of the failed.")
    seed: int = 0
