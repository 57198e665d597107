"""Config section of the export command."""

from pydantic import Field, field_validator, model_validator

from corpus_reranker.export.registry import export_format_class
from corpus_reranker.section import Section
from corpus_reranker.types import QueryStatus


class TriplesConfig(Section):
    """Which ranks become positives and negatives. The default of 7 negatives is Tevatron's (train_group_size 8)."""

    positives: int = Field(1, ge=1, description="Each of the ranks 1 to this one gives one triple.")
    negatives: int = Field(7, ge=1, description="Negatives per triple, sampled without replacement.")
    min_negative_rank: int = Field(11, ge=2, description="Best rank that can be sampled as a negative.")
    max_negative_rank: int = Field(100, ge=2, description="Worst rank that can be sampled as a negative.")
    statuses: tuple[QueryStatus, ...] = Field(
        ("complete",),
        min_length=1,
        description="Query statuses that give triples. The order of any other query is partly the first stage's.",
    )
    seed: int = Field(0, description="Seed of the sample.")

    @model_validator(mode="after")
    def _disjoint_ranks(self) -> "TriplesConfig":
        if self.min_negative_rank <= self.positives:
            raise ValueError("min_negative_rank must be greater than positives")
        if self.max_negative_rank < self.min_negative_rank:
            raise ValueError("max_negative_rank must not be less than min_negative_rank")
        return self


class ExportConfig(Section):
    """Format and destination of an export."""

    to: str = Field(description='trec, parquet, elasticsearch, vespa, triples, or "module:Class" of another format.')
    destination: str = Field(description="Folder to write to, local or s3://.")
    input: str | None = Field(None, description="Candidates Parquet (nested form) with the texts for triples.")
    columns: tuple[str, ...] = Field(
        ("query",), description="Pass-through columns in search documents, where the output has them."
    )
    tag: str = Field("corpus-reranker", pattern=r"^\S+$", description="Last field of a TREC run line.")
    index: str = Field("rankings", min_length=1, description="Elasticsearch index, or Vespa document type.")
    namespace: str = Field("rankings", min_length=1, description="Namespace of Vespa document ids.")
    single_file: bool = Field(False, description="Write one file for the whole output, not one per data file.")
    overwrite: bool = Field(False, description="Replace an earlier export in the destination.")
    triples: TriplesConfig = TriplesConfig()

    @field_validator("to")
    @classmethod
    def _known_format(cls, to: str) -> str:
        export_format_class(to)
        return to
