"""The job config: one YAML file per deployment. Every value can be overridden as `--section.key=value`.

Units are in the names. An error that can be seen in the config alone is raised here, before any actor starts.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.config.cache import CacheConfig
from corpus_reranker.config.calibration import CalibrationConfig
from corpus_reranker.config.cluster import ClusterConfig
from corpus_reranker.config.code_fingerprint import code_fingerprint
from corpus_reranker.config.estimate import EstimateConfig
from corpus_reranker.config.generation import GenerationConfig
from corpus_reranker.config.merge import merge
from corpus_reranker.config.prompt import PromptConfig
from corpus_reranker.config.reuse import ReuseConfig
from corpus_reranker.config.strategy import StrategySetting, strategy_options
from corpus_reranker.engines.base import EngineContext
from corpus_reranker.engines.model_fingerprint import engine_fingerprint
from corpus_reranker.engines.registry import AnyEngineSettings, AnyPreRankerSettings
from corpus_reranker.evaluation.settings import CalibrateConfig, CompareConfig, EvaluateConfig
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.retrieval.dataset_folder import keys_of_dataset
from corpus_reranker.retrieval.settings import AssembleConfig, DatasetConfig, RetrieveConfig
from corpus_reranker.section import Section, check_known_keys

if TYPE_CHECKING:
    from corpus_reranker.io.calibration import Calibration


def _known_policy_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        check_known_keys(value, [field.name for field in dataclasses.fields(RetryPolicy)])
    return value


_ENGINE_START_SECONDS = 900.0
"""Upper estimate of an engine start: a model of 32B parameters, read over the network, compiles for several minutes."""


def fingerprint_digest(fields: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of fingerprint fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


class PreRankerConfig(Section):
    """An optional pointwise model on each replica. It scores every candidate, and the LLM reranks the best `keep`."""

    engine: AnyPreRankerSettings
    keep: int = Field(
        100, ge=1, description="Number of candidates that the LLM reranks. The others follow in the pre-ranker's order."
    )


class RerankerConfig(Section):
    """Everything that is needed to rerank queries: models, prompt, strategy and replicas.

    It names no input and no output, so that it can be used inside another Ray Data pipeline (`build_reranker`).
    """

    engine: AnyEngineSettings
    pre_ranker: PreRankerConfig | None = None
    prompt: PromptConfig = PromptConfig()
    strategy: StrategySetting = SlidingWindow()
    generation: GenerationConfig = GenerationConfig()
    policy: Annotated[RetryPolicy, BeforeValidator(_known_policy_keys)] = RetryPolicy()
    calibration: CalibrationConfig | None = None
    cache: CacheConfig = CacheConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: StorageConfig = StorageConfig()

    @property
    def engine_context(self) -> EngineContext:
        """The values outside their own sections that engine and pre-ranker need."""
        return EngineContext(self.storage, self.generation.close_reasoning, self.cluster.max_replica_count)

    @property
    def simulated(self) -> bool:
        """Whether a scripted or simulated engine takes part in the ranking. The output records this."""
        return self.engine.simulated or (self.pre_ranker is not None and self.pre_ranker.engine.simulated)

    @property
    def no_progress_timeout_seconds(self) -> float:
        """`cluster.no_progress_timeout_seconds`, or its default: one window may take its whole timeout."""
        default = self.policy.window_timeout_seconds + _ENGINE_START_SECONDS
        return self.cluster.no_progress_timeout_seconds or default

    def num_ranked(self, num_candidates: int) -> int:
        """Number of candidates that the strategy gets for a query with `num_candidates`."""
        return num_candidates if self.pre_ranker is None else min(num_candidates, self.pre_ranker.keep)

    def dump(self) -> dict[str, Any]:
        """The config as JSON values. `model_validate` of them gives this config again."""
        return self.model_dump(mode="json")

    def reranker(self) -> "RerankerConfig":
        """This config without the sections that a job adds."""
        return RerankerConfig(**{name: getattr(self, name) for name in RerankerConfig.model_fields})

    def fingerprint_fields(self) -> dict[str, Any]:
        """Everything that determines the ranking, as JSON values. Location, speed and timeouts are not part of it.

        Reads the configs of the models, and samples of their weights.
        """
        return {
            "code": code_fingerprint([type(self.strategy), type(self.prompt.load_template().parser)]),
            "engine": engine_fingerprint(self.engine, self.storage),
            "pre_ranker": self.pre_ranker
            and {"engine": engine_fingerprint(self.pre_ranker.engine, self.storage), "keep": self.pre_ranker.keep},
            "prompt": self.prompt.fingerprint_fields(),
            "strategy": strategy_options(self.strategy),
            "generation": self.generation.model_dump(mode="json"),
            "policy": self.policy.fingerprint_fields(),
        }

    def load_calibration(self, fingerprint: str | None = None) -> "Calibration | None":
        """Read `calibration.file`, and check that it was fitted with this reranker.

        Args:
            fingerprint: The reranker's fingerprint, if it is known.

        Raises:
            InputError: The file is not a calibration, it was fitted with other settings, or its score is not a number.
        """
        if self.calibration is None:
            return None
        return self.calibration.load(self.storage, fingerprint or self.fingerprint())

    def fingerprint(self) -> str:
        """The digest of `fingerprint_fields`."""
        return fingerprint_digest(self.fingerprint_fields())


class JobConfig(RerankerConfig):
    """The config of a job: the reranker's sections, input and output, and the sections of the other commands."""

    input: InputConfig
    output: OutputConfig
    reuse: ReuseConfig = ReuseConfig()
    budget: BudgetConfig | None = None
    max_failed_fraction: float = Field(
        0.01, ge=0, le=1, description="Maximum fraction of failed queries. Above it, the run ends with exit code 3."
    )
    max_cost: float | None = Field(
        None,
        gt=0,
        description="Maximum cost of the run, over all its starts; needs engine.prices. At this cost, no further query "
        "begins; queries in flight finish, so the total can be higher. The run ends with exit code 7, and a higher "
        "limit resumes it.",
    )
    max_unanswered_fraction: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Maximum fraction of windows without a usable answer, which keep their order. Above it, the run "
        "ends with exit code 3.",
    )
    dataset: DatasetConfig | None = None
    retrieve: RetrieveConfig | None = None
    assemble: AssembleConfig | None = None
    evaluate: EvaluateConfig | None = None
    compare: CompareConfig | None = None
    calibrate: CalibrateConfig | None = None
    export: ExportConfig | None = None
    publish: PublishConfig | None = None
    report: ReportConfig = ReportConfig()
    estimate: EstimateConfig = EstimateConfig()

    def fingerprint_fields(self) -> dict[str, Any]:
        """As in RerankerConfig, and the budget: it determines how many windows a query gets."""
        fields = super().fingerprint_fields()
        return fields if self.budget is None else {**fields, "budget": self.budget.model_dump(mode="json")}

    @model_validator(mode="before")
    @classmethod
    def _keys_of_the_dataset(cls, data: Any) -> Any:
        """Give the sections of the other commands the keys that they take from the dataset."""
        if not isinstance(data, Mapping) or not isinstance(data.get("dataset"), Mapping):
            return data
        candidates = data.get("input") or {}
        path = candidates.get("path", "") if isinstance(candidates, Mapping) else ""
        keys = keys_of_dataset(DatasetConfig.model_validate(data["dataset"]), str(path))
        return merge({section: values for section, values in keys.items() if data.get(section)}, data)
