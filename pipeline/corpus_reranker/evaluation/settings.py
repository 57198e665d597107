"""Config sections of the commands evaluate, compare and calibrate."""

from pydantic import Field, field_validator, model_validator

from corpus_reranker.section import Section
from corpus_reranker.types import CalibrationMethod


class EvaluateConfig(Section):
    """Measures and statistics of an evaluation."""

    qrels: str = Field(description="TREC qrels file, local or s3://, plain or .gz.")
    measures: tuple[str, ...] = Field(
        ("nDCG@10", "RR@10", "AP", "Judged@10"),
        min_length=1,
        description="Measures, in the notation of ir_measures: nDCG@10, AP(rel=2), R@100.",
    )
    baseline: str | None = Field(None, description="System to compare all others with. None compares every pair.")
    resamples: int = Field(10_000, ge=100, description="Resamples of the bootstrap and of the randomization test.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Confidence level of the bootstrap intervals.")
    seed: int = Field(0, description="Seed of the resampling.")
    calibration: str | None = Field(
        None,
        description="Calibration that the calibrate command wrote, for min_p_relevant. None: the p_relevant of "
        "the output.",
    )
    min_p_relevant: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Adds the system `x kept` for each output x: the reranked documents with at least this probability "
        "of being relevant.",
    )
    allow_unfinished: bool = Field(False, description="Evaluate outputs of runs that have not finished.")
    json_path: str | None = Field(None, description="File for the full result as JSON, including per-query values.")
    csv_path: str | None = Field(
        None, description="File for the per-query values as CSV: one row per system, query and measure."
    )

    @model_validator(mode="after")
    def _calibration_has_a_cutoff(self) -> "EvaluateConfig":
        if self.calibration is not None and self.min_p_relevant is None:
            raise ValueError("calibration needs min_p_relevant")
        return self


def ndcg_settings(config: EvaluateConfig | None, baseline: str | None = None) -> EvaluateConfig:
    """The settings for nDCG@10 alone, with the statistics of the section `evaluate`, or their defaults without it."""
    return (config or EvaluateConfig(qrels="")).model_copy(update={"measures": ("nDCG@10",), "baseline": baseline})


class CompareConfig(Section):
    """Measures, thresholds and files of a comparison of two outputs."""

    baseline: str = Field(description="Output A, local or s3://, the baseline of output B.")
    cutoff: int = Field(10, ge=1, description="Number of top ranks for the overlap and for the lists of the page.")
    rbo_p: float = Field(
        0.9, gt=0, lt=1, description="Persistence p of RBO. The first 10 ranks have 86 % of the weight at 0.9."
    )
    min_tau: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Minimum mean of Kendall's tau. Below it, the exit code is 6. A query that only one output has, or "
        "that has other candidates, counts as 0.",
    )
    min_overlap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum mean overlap of the top `cutoff`. Below it, the exit code is 6. A query that only one "
        "output has counts as 0.",
    )
    qrels: str | None = Field(
        None,
        description="TREC qrels file. Adds a comparison of nDCG@10, with the statistics of the section `evaluate`. "
        "None: the qrels of the section `evaluate`, if it has any.",
    )
    input: str | None = Field(
        None, description="Candidates Parquet in nested form. Adds the passages of the listed queries to the page."
    )
    listed_queries: int = Field(10, ge=0, description="Number of most changed queries that the page lists.")
    page_path: str = Field("comparison.html", description="File for the HTML page, local or s3://.")
    csv_path: str | None = Field(None, description="File for the values per query as CSV: one row per query.")
    allow_unfinished: bool = Field(False, description="Compare outputs of runs that have not finished.")
    allow_simulated: bool = Field(False, description="Compare outputs whose engine was scripted or simulated.")


class CalibrateConfig(Section):
    """Judgments and method of a calibration, and its files."""

    qrels: str = Field(description="TREC qrels file, local or s3://, plain or .gz. Only judged documents are used.")
    score: str | None = Field(
        None,
        description="Field of `ranking` to calibrate: rank, initial_score, pre_ranker_score, llm_score, or another "
        "number. None: llm_score if the LLM scored a judged document of each query, else rank.",
    )
    method: CalibrationMethod = Field(
        "isotonic", description="isotonic: any monotone map; platt: a logistic curve, for few judgments."
    )
    min_relevance: int = Field(1, ge=1, description="Grade from which a document counts as relevant.")
    folds: int = Field(
        2, ge=2, description="Parts of the queries for cross-validation. A fit on the other parts predicts each part."
    )
    model_path: str = Field("calibration.json", description="File for the calibration, local or s3://.")
    page_path: str = Field("calibration.html", description="File for the HTML page, local or s3://.")
    allow_unfinished: bool = Field(False, description="Use the output of a run that has not finished.")
    allow_simulated: bool = Field(False, description="Use an output whose engine was scripted or simulated.")

    @field_validator("score")
    @classmethod
    def _not_derived(cls, score: str | None) -> str | None:
        if score == "score":
            raise ValueError("the field score is derived from the rank; use rank")
        if score == "p_relevant":
            raise ValueError("the field p_relevant is derived from another score; use that score")
        return score
