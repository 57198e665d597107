"""Config section of the run report."""

from pydantic import Field

from corpus_reranker.section import Section


class ReportConfig(Section):
    """Settings of the run report."""

    qrels: str | None = Field(None, description="TREC qrels file; the report then shows nDCG@10 before and after.")
    price_per_gpu_hour: float | None = Field(None, ge=0, description="Price of a GPU-hour; None: no cost figures.")
    currency: str = Field("USD", description="Currency of the price.")
    gpus: int | None = Field(None, ge=0, description="GPUs of the run; None: the most that its config asks for.")
    sampled_windows: int = Field(5, ge=0, description="Windows shown with prompt and response.")
    listed_queries: int = Field(10, ge=0, description="Queries listed as slowest, and as failed.")
    seed: int = Field(0, description="Seed of the samples.")
