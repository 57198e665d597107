"""Config section of the export command."""

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from corpus_reranker.section import Section
from corpus_reranker.types import QueryStatus

ExportFormat: TypeAlias = Literal["trec", "parquet", "elasticsearch", "vespa", "triples"]


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
