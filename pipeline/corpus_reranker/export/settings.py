"""Config section of the export command."""

from typing import Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from corpus_reranker.export.registry import export_format_class, format_supports
from corpus_reranker.section import Section
from corpus_reranker.types import QueryStatus

LabelSource: TypeAlias = Literal[
    "rank", "grade", "llm_score", "belief_mean", "pre_ranker_score", "initial_score", "p_relevant"
]


class TrainingConfig(Section):
    """Which documents become positives and negatives, and their labels.

    The default of 7 negatives is Tevatron's (train_group_size 8).
    """

    positives: int = Field(1, ge=1, description="Number of top ranks that are positives.")
    negatives: int = Field(7, ge=1, description="Negatives per example, sampled without replacement.")
    min_negative_rank: int = Field(11, ge=2, description="First rank from which negatives are sampled.")
    max_negative_rank: int = Field(100, ge=2, description="Last rank from which negatives are sampled.")
    seed: int = Field(0, description="Seed of the sampling.")
    label: LabelSource | None = Field(
        None,
        description="Label of a document: rank (1 / rank), grade (its judgment in qrels), or a field of `ranking`. "
        "Documents without it are skipped. None: llm_score for each query whose positives have one, else rank.",
    )
    qrels: str | None = Field(
        None,
        description="Qrels file. A document that is judged relevant is never a negative, and a document that is judged "
        "not relevant is never a positive.",
    )
    min_relevance: int = Field(1, ge=1, description="Grade from which a document counts as relevant.")
    min_disagreement: int | None = Field(
        None,
        ge=1,
        description="Only documents that the LLM ranks at least this many ranks lower than `disagreement_with` does "
        "become negatives.",
    )
    disagreement_with: Literal["first_stage", "pre_ranker"] = Field(
        "first_stage", description="The ranking that min_disagreement compares with."
    )
    false_negative_margin: float = Field(
        0.0,
        ge=0,
        description="Minimum distance of the label of a negative below the lowest label of the positives. Closer "
        "documents are skipped (absolute_margin of sentence-transformers).",
    )
    reasoning: bool = Field(
        False,
        description="Add the reasoning of the last window with the top ranks, if the output has it. Only for triples, "
        "flag_embedding and tevatron.",
    )

    @model_validator(mode="after")
    def _disjoint_ranks(self) -> "TrainingConfig":
        if self.min_negative_rank <= self.positives:
            raise ValueError("min_negative_rank must be greater than positives")
        if self.max_negative_rank < self.min_negative_rank:
            raise ValueError("max_negative_rank must not be less than min_negative_rank")
        if self.label == "grade" and self.qrels is None:
            raise ValueError("the label grade needs qrels")
        return self


class ExportConfig(Section):
    """Format and destination of an export."""

    to: str = Field(
        description="Format: trec, rankllm, mteb, parquet, elasticsearch, vespa, triples, flag_embedding, tevatron, "
        'listwise, margin_mse, hard_negatives, or "module:Class".'
    )
    destination: str = Field(description="Folder to write to, local or s3://.")
    input: str | None = Field(
        None,
        description="Candidates Parquet in nested form, with the texts for rankllm and training data. None: "
        "input.path; for triples, doc_ids without texts.",
    )
    columns: tuple[str, ...] = Field(
        ("query",), description="Pass-through columns to include in search documents, if the output has them."
    )
    tag: str = Field(
        "corpus-reranker",
        pattern=r"^\S+$",
        description="Run tag, the last field of a line of a TREC run; the name of the model in predictions of mteb.",
    )
    subset: str = Field("default", description="Subset of the task in predictions of mteb.")
    split: str = Field("test", description="Split of the task in predictions of mteb.")
    index: str = Field("rankings", pattern=r"^[^:]+$", description="Elasticsearch index, or Vespa document type.")
    namespace: str = Field("rankings", pattern=r"^[^:]+$", description="Namespace of the Vespa document ids.")
    statuses: tuple[QueryStatus, ...] | None = Field(
        None,
        min_length=1,
        description="Statuses of the queries to export. Other queries, and those without a ranking, are skipped and "
        "listed in _skipped.jsonl. None: complete and degraded; for training data only complete, because parts of "
        "a degraded ranking are in first-stage order.",
    )
    trec_ids: Literal["skip", "escape"] = Field(
        "skip",
        description="What happens to an id with white space, which a TREC run cannot hold: skip its query or document "
        "and list it in _skipped.jsonl, or percent-encode white space, control characters and % in every id.",
    )
    single_file: bool | None = Field(
        None,
        description="Write a single file instead of one per data file. None: only for trec and training data.",
    )
    allow_unfinished: bool = Field(False, description="Export the output of a run that has not finished.")
    allow_simulated: bool = Field(
        False, description="Export an output whose engine was scripted or simulated: no model ranked it."
    )
    calibration: str | None = Field(
        None,
        description="Calibration that the calibrate command wrote. It adds the field p_relevant to Parquet and search "
        "documents. None: the p_relevant of the output, if its run had a calibration.",
    )
    min_p_relevant: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Skip documents with a lower p_relevant. The others keep their ranks; a query may have none.",
    )
    overwrite: bool = Field(False, description="Replace an earlier export in the destination.")
    training: TrainingConfig = TrainingConfig()

    @property
    def exported_statuses(self) -> tuple[QueryStatus, ...]:
        """`statuses`, or their default for the format."""
        return self.statuses or (("complete",) if self.for_training else ("complete", "degraded"))

    @property
    def is_single_file(self) -> bool:
        """`single_file`, or its default for the format."""
        return format_supports(self.to, "single_file") if self.single_file is None else self.single_file

    @property
    def needs_p_relevant(self) -> bool:
        """Whether the documents must have `p_relevant`."""
        return self.min_p_relevant is not None or self.training.label == "p_relevant"

    @property
    def for_training(self) -> bool:
        """Whether the format is for training data."""
        return format_supports(self.to, "for_training")

    @model_validator(mode="after")
    def _no_cutoff_for_training(self) -> "ExportConfig":
        if self.min_p_relevant is not None and self.for_training:
            raise ValueError("min_p_relevant is not for training data: its negatives come from low ranks")
        return self

    @model_validator(mode="after")
    def _reasoning_has_a_place(self) -> "ExportConfig":
        if self.training.reasoning and not format_supports(self.to, "keeps_reasoning"):
            raise ValueError(f"training.reasoning is not for {self.to}, which has no field for it")
        return self

    @field_validator("to")
    @classmethod
    def _known_format(cls, to: str) -> str:
        export_format_class(to)
        return to
