"""Config section of the run report."""

from pydantic import Field

from corpus_reranker.section import Section


class ReportConfig(Section):
    """Settings of the run report."""

    qrels: str | None = Field(
        None, description="TREC qrels file. With it, the report shows nDCG@10 before and after reranking."
    )
    price_per_gpu_hour: float | None = Field(None, ge=0, description="Price of a GPU-hour. None: no cost figures.")
    currency: str = Field("USD", description="Currency of the price.")
    gpus: int | None = Field(
        None, ge=0, description="Number of GPUs of the run. None: the maximum that its config allows."
    )
    sampled_windows: int = Field(5, ge=0, description="Number of windows shown with prompt and response.")
    listed_queries: int = Field(10, ge=0, description="Number of slowest queries, and of failed queries, to list.")
    allow_unfinished: bool = Field(False, description="Report on a run that has not finished.")
    seed: int = Field(0, description="Seed of the random samples.")
