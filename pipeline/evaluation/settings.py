"""Config sections of the evaluation room. Light to import: pipeline.config does."""

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from pipeline.records import QueryStatus
from pipeline.settings import Section

ExportFormat: TypeAlias = Literal["trec", "parquet", "elasticsearch", "vespa", "triples"]


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


class TriplesConfig(Section):
    """Which ranks teach a retriever what. The default of 7 negatives is Tevatron's (train_group_size 8)."""

    positives: int = Field(1, ge=1, description="The ranks 1..positives give one triple each.")
    negatives: int = Field(7, ge=1, description="Sampled without replacement for each triple.")
    min_negative_rank: int = Field(11, ge=2)
    max_negative_rank: int = Field(100, ge=2)
    statuses: tuple[QueryStatus, ...] = Field(("complete",), min_length=1, description="Others teach the first stage.")
    seed: int = 0

    @model_validator(mode="after")
    def _ranks_apart(self) -> "TriplesConfig":
        if self.min_negative_rank <= self.positives:
            raise ValueError("min_negative_rank must be below the positives' ranks: above positives")
        if self.max_negative_rank < self.min_negative_rank:
            raise ValueError("max_negative_rank must not be below min_negative_rank")
        return self


class ExportConfig(Section):
    """What an output is turned into, and where it goes."""

    to: ExportFormat
    destination: str = Field(description="Folder, local or s3://.")
    input: str | None = Field(None, description="Candidates Parquet (nested form) that holds the texts for triples.")
    columns: tuple[str, ...] = Field(("query",), description="Pass-through columns in search documents, where present.")
    tag: str = Field("corpus-reranker", pattern=r"^\S+$", description="Last field of a TREC run line.")
    index: str = Field("rankings", min_length=1, description="Elasticsearch index, or Vespa document type.")
    namespace: str = Field("rankings", min_length=1, description="Of Vespa document ids.")
    single_file: bool = Field(False, description="One file for the whole output, not one per input part.")
    overwrite: bool = Field(False, description="Replace what an earlier export left in the destination.")
    triples: TriplesConfig = TriplesConfig()


class ReportConfig(Section):
    """What the run report adds to what the output itself holds."""

    qrels: str | None = Field(None, description="TREC qrels file: shows nDCG@10 before and after.")
    price_per_gpu_hour: float | None = Field(None, ge=0)
    currency: str = "USD"
    gpus: int | None = Field(None, ge=0, description="Of the run; None: as its config says, at most.")
    sampled_windows: int = Field(5, ge=0, description="Prompts and answers shown in full.")
    listed_queries: int = Field(10, ge=0, description="Of the slowest, and of the failed.")
    seed: int = 0
