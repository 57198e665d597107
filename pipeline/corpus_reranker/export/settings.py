"""Config section of the export command."""

from typing import Literal

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
    statuses: tuple[QueryStatus, ...] | None = Field(
        None,
        min_length=1,
        description="Statuses of the queries to export. Other queries, and those without a ranking, are skipped and "
        "listed in _skipped.jsonl. None: complete and degraded; for triples only complete, because parts of a "
        "degraded ranking are in first-stage order.",
    )
    trec_ids: Literal["skip", "escape"] = Field(
        "skip",
        description="What happens to an id with white space, which a TREC run cannot hold: skip its query or document "
        "and list it in _skipped.jsonl, or percent-encode white space, control characters and % in every id.",
    )
    single_file: bool | None = Field(
        None, description="Write a single file instead of one per data file. None: only for trec."
    )
    allow_unfinished: bool = Field(False, description="Export the output of a run that has not finished.")
    allow_simulated: bool = Field(
        False, description="Export an output whose engine was scripted or simulated: no model ranked it."
    )
    calibration: str | None = Field(
        None,
        description="Calibration that the calibrate command wrote. It adds the field p_relevant to Parquet and search "
        "documents.",
    )
    min_p_relevant: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Leave out documents with a lower p_relevant. The others keep their ranks; a query may have none.",
    )
    overwrite: bool = Field(False, description="Replace an earlier export in the destination.")
    triples: TriplesConfig = TriplesConfig()

    @property
    def exported_statuses(self) -> tuple[QueryStatus, ...]:
        """`statuses`, or their default for the format."""
        return self.statuses or (("complete",) if self.to == "triples" else ("complete", "degraded"))

    @property
    def is_single_file(self) -> bool:
        """`single_file`, or its default for the format."""
        return self.to == "trec" if self.single_file is None else self.single_file

    @model_validator(mode="after")
    def _cut_off_has_a_calibration(self) -> "ExportConfig":
        if self.min_p_relevant is not None and self.calibration is None:
            raise ValueError("min_p_relevant needs a calibration")
        if self.min_p_relevant is not None and self.to == "triples":
            raise ValueError("min_p_relevant is not for triples: their negatives come from low ranks")
        return self

    @field_validator("to")
    @classmethod
    def _known_format(cls, to: str) -> str:
        export_format_class(to)
        return to
