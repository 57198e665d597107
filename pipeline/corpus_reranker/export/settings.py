"""Config section of the export command."""

from pydantic import Field, field_validator, model_validator

from corpus_reranker.export.registry import export_format_class
from corpus_reranker.section import Section
from corpus_reranker.types import QueryStatus


class TriplesConfig(Section):
    """Which ranks become positives and negatives. The default of 7 negatives is Tevatron's (train_group_size 8)."""

    positives: int = Field(1, ge=1, description="Number of top ranks; each yields one triple.")
    negatives: int = Field(7, ge=1, description="Negatives per triple, sampled without replacement.")
    min_negative_rank: int = Field(11, ge=2, description="First rank from which negatives are sampled.")
    max_negative_rank: int = Field(100, ge=2, description="Last rank from which negatives are sampled.")
    statuses: tuple[QueryStatus, ...] = Field(
        ("complete",),
        min_length=1,
        description="Statuses of the queries to use. Below `complete`, parts of a ranking are in first-stage order.",
    )
    seed: int = Field(0, description="Seed of the sampling.")

    @model_validator(mode="after")
    def _disjoint_ranks(self) -> "TriplesConfig":
        if self.min_negative_rank <= self.positives:
            raise ValueError("min_negative_rank must be greater than positives")
        if self.max_negative_rank < self.min_negative_rank:
            raise ValueError("max_negative_rank must not be less than min_negative_rank")
        return self


class ExportConfig(Section):
    """Format and destination of an export."""

    to: str = Field(description='Format: trec, parquet, elasticsearch, vespa, triples, or "module:Class".')
    destination: str = Field(description="Folder to write to, local or s3://.")
    input: str | None = Field(None, description="Candidates Parquet in nested form, with the texts for triples.")
    columns: tuple[str, ...] = Field(
        ("query",), description="Pass-through columns to include in search documents, if the output has them."
    )
    tag: str = Field(
        "corpus-reranker", pattern=r"^\S+$", description="Run tag, the last field of a line of a TREC run."
    )
    index: str = Field("rankings", min_length=1, description="Elasticsearch index, or Vespa document type.")
    namespace: str = Field("rankings", min_length=1, description="Namespace of the Vespa document ids.")
    single_file: bool = Field(False, description="Write a single file instead of one per data file.")
    overwrite: bool = Field(False, description="Replace an earlier export in the destination.")
    triples: TriplesConfig = TriplesConfig()

    @field_validator("to")
    @classmethod
    def _known_format(cls, to: str) -> str:
        export_format_class(to)
        return to
