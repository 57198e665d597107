"""The job config: one YAML a deployment, every value overridable on the command line as `--section.key=value`.

Units are in the names. What can be seen to be wrong from the config alone is wrong here, before any actor starts.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    model_validator,
)

from corpus_reranker.answers.base import AnswerParser
from corpus_reranker.engines.base import EngineContext
from corpus_reranker.engines.registry import AnyEngineSettings, AnyPreRankerSettings
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from corpus_reranker.paths import PROMPTS_DIRECTORY
from corpus_reranker.plugins import registered_name
from corpus_reranker.prompts.few_shot import load_examples
from corpus_reranker.prompts.template import PromptTemplate, load_template, template_path
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.base import Strategy
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.retrieval.settings import AssembleConfig, RetrieveConfig
from corpus_reranker.section import Section, check_known_keys
from corpus_reranker.types import SamplingParams


def _build_strategy(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    options = dict(value)
    cls = strategy_class(str(options.pop("name", "sliding_window")))
    check_known_keys(options, [field.name for field in dataclasses.fields(cls)])  # type: ignore[arg-type]
    return TypeAdapter(cls).validate_python(options)


def _strategy_options(strategy: Strategy) -> dict[str, Any]:
    return {"name": registered_name(type(strategy), STRATEGIES), **dataclasses.asdict(strategy)}  # type: ignore[call-overload]


def _known_policy_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        check_known_keys(value, [field.name for field in dataclasses.fields(RetryPolicy)])
    return value


class PromptConfig(Section):
    template: str = Field("reasonrank", description="Name in configs/prompts, or path of a template file.")
    max_passage_tokens: int = Field(512, ge=1, description="512 for BRIGHT and R2MED, 100 for BEIR and TREC DL.")
    examples: str | None = Field(
        None, description="JSONL file of few-shot examples (pipeline/corpus_reranker/prompts/few_shot.py)."
    )

    def load_template(self) -> PromptTemplate:
        """Raises ConfigError if there is no such template, or it is wrong."""
        return load_template(template_path(self.template, PROMPTS_DIRECTORY))

    def load_examples(self) -> list[dict[str, str]]:
        """Messages that come before each prompt. Raises ConfigError for a file that cannot be read."""
        return load_examples(Path(self.examples)) if self.examples else []

    def fingerprint_fields(self) -> dict[str, Any]:
        """What decides the prompts (JSON values)."""
        examples = json.dumps(self.load_examples(), sort_keys=True).encode()
        return {
            **self.model_dump(mode="json", exclude={"examples"}),
            "template_hash": self.load_template().hash,
            "examples_hash": hashlib.sha256(examples).hexdigest()[:16] if self.examples else None,
        }


class GenerationConfig(Section):
    """ReasonRank 7B/32B: temperature 0. 8B: temperature 0.6, top_p 0.95, top_k 20 (run_rank_llm.py)."""

    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 for all tokens.")
    min_p: float = Field(0.0, ge=0, le=1)
    max_reasoning_tokens: int = Field(3072, ge=0)
    max_answer_tokens: int = Field(100, ge=1)
    stop_at_answer_end: bool = Field(
        True, description="Where a template has an answer section: nothing behind it is read."
    )
    close_reasoning: bool = Field(
        False,
        description="Close reasoning that is still open after max_reasoning_tokens and let the model answer "
        "(finish_reason `capped`). vLLM does so within the request if <think> and </think> are single tokens of the "
        "model (Qwen3), else a second request does. Off, as ReasonRank's authors have it, such a window is truncated "
        "and requested again.",
    )
    seed: int = 0

    @property
    def max_tokens(self) -> int:
        return self.max_reasoning_tokens + self.max_answer_tokens

    def sampling_params(self, parser: AnswerParser) -> SamplingParams:
        """The sampling parameters of a window's first attempt, for answers that `parser` reads."""
        stop = parser.stop if self.stop_at_answer_end else ()
        return SamplingParams(self.temperature, self.top_p, self.top_k, self.min_p, self.max_tokens, self.seed, stop)


class PreRankerConfig(Section):
    """A cheap pass on the same replicas, before the strategy: it sees every candidate, the LLM only the best."""

    engine: AnyPreRankerSettings
    keep: int = Field(
        100, ge=1, description="Candidates that go on; the others stay behind, in the pre-ranker's order."
    )


class ClusterConfig(Section):
    """How many replicas, and how much each keeps in flight."""

    replicas: int | None = Field(None, ge=1, description="Fixed, each with its share of queries; or set min and max.")
    min_replicas: int = Field(1, ge=1)
    max_replicas: int | None = Field(None, ge=1, description="None: min_replicas.")
    cpus_per_replica: float = Field(1.0, ge=0)
    queries_in_flight: int | None = Field(
        None,
        ge=1,
        description="Per replica; None: so many that the engine holds all the windows it can, and some wait.",
    )
    queries_per_block: int | None = Field(
        None,
        ge=1,
        description="Queries that are written, and lost to a crash, together; None: 1 to 256, by their number.",
    )
    max_replica_start_failures: int = Field(3, ge=1, description="In a row; then the job ends with the reason.")
    max_block_retries: int = Field(20, ge=0, description="Of one block, each after its replica was lost.")
    no_progress_timeout_seconds: float = Field(86400.0, gt=0)
    progress_seconds: float = Field(10.0, gt=0, description="Between progress lines.")
    event_log: str | None = Field(
        None, description='"stderr", or a folder on every node: one JSON line for each window, query and start.'
    )

    @model_validator(mode="after")
    def _replica_counts(self) -> "ClusterConfig":
        if self.replicas is not None and self.max_replicas is not None:
            raise ValueError("give either replicas, or min_replicas and max_replicas")
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self

    @property
    def min_replica_count(self) -> int:
        return self.replicas or self.min_replicas

    @property
    def max_replica_count(self) -> int:
        return self.replicas or self.max_replicas or self.min_replicas


class RerankerConfig(Section):
    """What reranks a query: the models, the prompt, the strategy, and the replicas they run on.

    It names no input and no output, so that it can be used inside another Ray Data pipeline (`build_reranker`).
    """

    engine: AnyEngineSettings
    pre_ranker: PreRankerConfig | None = None
    prompt: PromptConfig = PromptConfig()
    strategy: Annotated[Any, PlainValidator(_build_strategy), PlainSerializer(_strategy_options)] = SlidingWindow()
    generation: GenerationConfig = GenerationConfig()
    policy: Annotated[RetryPolicy, BeforeValidator(_known_policy_keys)] = RetryPolicy()
    cluster: ClusterConfig = ClusterConfig()
    storage: StorageConfig = StorageConfig()

    @property
    def engine_context(self) -> EngineContext:
        """What an engine or a pre-ranker needs to know beside its own section."""
        return EngineContext(self.storage, self.generation.close_reasoning)

    @property
    def simulated(self) -> bool:
        """True if the ranking is not made by models alone. The output records it."""
        return self.engine.simulated or (self.pre_ranker is not None and self.pre_ranker.engine.simulated)

    def num_ranked(self, num_candidates: int) -> int:
        """How many of a query's `num_candidates` the strategy gets."""
        return num_candidates if self.pre_ranker is None else min(num_candidates, self.pre_ranker.keep)

    def dump(self) -> dict[str, Any]:
        """The config as JSON values. `model_validate` of them gives this config again."""
        return self.model_dump(mode="json")

    def reranker(self) -> "RerankerConfig":
        """This config without the sections that a job adds."""
        return RerankerConfig(**{name: getattr(self, name) for name in RerankerConfig.model_fields})

    def fingerprint_fields(self) -> dict[str, Any]:
        """What decides the ranking, as JSON values: not where the run runs, how fast it is, or how often it retries."""
        return {
            "engine": self.engine.fingerprint_fields(),
            "pre_ranker": self.pre_ranker
            and {"engine": self.pre_ranker.engine.fingerprint_fields(), "keep": self.pre_ranker.keep},
            "prompt": self.prompt.fingerprint_fields(),
            "strategy": _strategy_options(self.strategy),
            "generation": self.generation.model_dump(mode="json"),
        }

    def hash(self) -> str:
        """16 hex digits of the SHA-256 of `fingerprint_fields`."""
        return hashlib.sha256(json.dumps(self.fingerprint_fields(), sort_keys=True).encode()).hexdigest()[:16]


class EstimateConfig(Section):
    """What an estimate of the run takes as given. Rates are of one replica at full load; without: no time, no price."""

    replicas: int | None = Field(None, ge=1, description="None: as many as the cluster section allows.")
    windows_per_second: float | None = Field(None, gt=0)
    prompt_tokens_per_second: float | None = Field(None, gt=0, description="With output tokens a second, side by side.")
    output_tokens_per_second: float | None = Field(None, gt=0)
    output_tokens_mean: float | None = Field(None, ge=0, description="Of a window, all attempts.")
    measured: str | None = Field(None, description="Output of an earlier run, for the answers' lengths.")
    sample_queries: int = Field(200, ge=0, description="Whose prompts are tokenised; 0: all.")
    json_path: Path | None = Field(None, description="Everything, also written here.")

    @model_validator(mode="after")
    def _one_source_each(self) -> "EstimateConfig":
        tokens = (self.prompt_tokens_per_second, self.output_tokens_per_second)
        if self.windows_per_second is not None and tokens != (None, None):
            raise ValueError("give windows_per_second, or prompt_ and output_tokens_per_second, not both")
        if self.windows_per_second is None and tokens.count(None) == 1:
            raise ValueError("give both prompt_tokens_per_second and output_tokens_per_second")
        if self.output_tokens_mean is not None and self.measured is not None:
            raise ValueError("give output_tokens_mean or measured, not both")
        return self


class JobConfig(RerankerConfig):
    """The config of a rerank job: the reranker's sections, where its data is, and the jobs around it."""

    input: InputConfig
    output: OutputConfig
    max_failed_fraction: float = Field(0.01, ge=0, le=1, description="More failed queries: exit code 3.")
    retrieve: RetrieveConfig | None = None
    assemble: AssembleConfig | None = None
    evaluate: EvaluateConfig | None = None
    export: ExportConfig | None = None
    report: ReportConfig = ReportConfig()
    estimate: EstimateConfig = EstimateConfig()
