"""The job config: one YAML a deployment, every value overridable on the command line as `--section.key=value`.

Units are in the names. What can be seen to be wrong from the config alone is wrong here, before any actor starts.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pipeline.engines.registry import AnyEngineSettings, AnyScorerSettings
from pipeline.errors import ConfigError
from pipeline.evaluation.settings import EvaluateConfig, ExportConfig, ReportConfig
from pipeline.in_flight import with_spare
from pipeline.partition import check_filled, fill_date
from pipeline.prompting.examples import load_examples
from pipeline.prompting.template import PromptTemplate, load_template, template_path
from pipeline.ranking.answer import ANSWER_END
from pipeline.ranking.permutation import AnswerFormat
from pipeline.ranking.rerank import AskPolicy
from pipeline.ranking.strategies import STRATEGIES, Strategy, strategy_class
from pipeline.ranking.strategies.sliding_window import SlidingWindow
from pipeline.records import SamplingParams
from pipeline.retrieval.settings import AssembleConfig, RetrieveConfig
from pipeline.settings import Section, check_known_keys
from pipeline.storage.settings import InputConfig, OutputConfig, StorageConfig

S = TypeVar("S", bound=Section)

CONFIGS_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"
"""configs/ of the checkout, or of the installed wheel, which carries it beside `pipeline`."""


def _build_strategy(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    options = dict(value)
    cls = strategy_class(str(options.pop("name", "sliding_window")))
    check_known_keys(options, [field.name for field in dataclasses.fields(cls)])  # type: ignore[arg-type]
    return TypeAdapter(cls).validate_python(options)


def _strategy_options(strategy: Strategy) -> dict[str, Any]:
    target = f"{type(strategy).__module__}:{type(strategy).__name__}"
    name = next((name for name, known in STRATEGIES.items() if known == target), target)
    return {"name": name, **dataclasses.asdict(strategy)}  # type: ignore[call-overload]


def _known_policy_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        check_known_keys(value, [field.name for field in dataclasses.fields(AskPolicy)])
    return value


class PromptConfig(Section):
    template: str = Field("reasonrank", description="Name in configs/prompts, or path of a template file.")
    max_passage_tokens: int = Field(512, ge=1, description="512 for BRIGHT and R2MED, 100 for BEIR and TREC DL.")
    examples: str | None = Field(None, description="JSONL file of few-shot examples (pipeline/prompting/examples.py).")

    def load_template(self) -> PromptTemplate:
        """Raises ConfigError if there is no such template, or it is wrong."""
        return load_template(template_path(self.template, CONFIGS_DIRECTORY / "prompts"))

    def load_examples(self) -> list[dict[str, str]]:
        """Messages that come before each prompt. Raises ConfigError for a file that cannot be read."""
        return load_examples(Path(self.examples)) if self.examples else []

    def identity(self) -> dict[str, Any]:
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
        description="Close thoughts still open after max_reasoning_tokens and let the model answer (finish_reason "
        "`capped`). Without it, as ReasonRank's authors do, such a window is truncated and asked again.",
    )
    seed: int = 0

    @property
    def max_tokens(self) -> int:
        return self.max_reasoning_tokens + self.max_answer_tokens

    def sampling_params(self, answer_format: AnswerFormat) -> SamplingParams:
        stop = (ANSWER_END,) if self.stop_at_answer_end and answer_format == "reasoning" else ()
        return SamplingParams(self.temperature, self.top_p, self.top_k, self.min_p, self.max_tokens, self.seed, stop)


class FirstPassConfig(Section):
    """A cheap pass on the same replicas, before the strategy: it sees every candidate, the LLM only the best."""

    engine: AnyScorerSettings
    keep: int = Field(
        100, ge=1, description="Candidates that go on; the others stay behind, in the first pass's order."
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
    def replicas_at_least(self) -> int:
        return self.replicas or self.min_replicas

    @property
    def replicas_at_most(self) -> int:
        return self.replicas or self.max_replicas or self.min_replicas


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


class JobConfig(Section):
    """Everything a job needs to know."""

    input: InputConfig
    output: OutputConfig
    engine: AnyEngineSettings
    storage: StorageConfig = StorageConfig()
    first_pass: FirstPassConfig | None = None
    prompt: PromptConfig = PromptConfig()
    strategy: Annotated[Any, PlainValidator(_build_strategy), PlainSerializer(_strategy_options)] = SlidingWindow()
    generation: GenerationConfig = GenerationConfig()
    policy: Annotated[AskPolicy, BeforeValidator(_known_policy_keys)] = AskPolicy()
    cluster: ClusterConfig = ClusterConfig()
    max_failed_fraction: float = Field(0.01, ge=0, le=1, description="More failed queries: exit code 3.")
    retrieve: RetrieveConfig | None = None
    assemble: AssembleConfig | None = None
    evaluate: EvaluateConfig | None = None
    export: ExportConfig | None = None
    report: ReportConfig = ReportConfig()
    estimate: EstimateConfig = EstimateConfig()

    @property
    def windows_in_flight_at_most(self) -> int:
        """Per replica. How many are wanted once the engine runs depends on its KV cache and their lengths."""
        return self.cluster.queries_in_flight or with_spare(self.engine.max_num_seqs)

    @property
    def simulated(self) -> bool:
        """True where the ranking is not models' alone; the output says so."""
        return self.engine.simulated or (self.first_pass is not None and self.first_pass.engine.simulated)

    def num_ranked(self, num_candidates: int) -> int:
        """How many of a query's candidates the strategy gets."""
        return num_candidates if self.first_pass is None else min(num_candidates, self.first_pass.keep)

    def dump(self) -> dict[str, Any]:
        """JSON values; `load` of them gives this config again."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """What decides the ranking (JSON values): not where the run runs, how fast, nor how patiently."""
        return {
            "engine": self.engine.identity(),
            "first_pass": self.first_pass
            and {"engine": self.first_pass.engine.identity(), "keep": self.first_pass.keep},
            "prompt": self.prompt.identity(),
            "strategy": _strategy_options(self.strategy),
            "generation": self.generation.model_dump(mode="json"),
        }

    def hash(self) -> str:
        """16 hex digits of the SHA-256 of `identity`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


def config_path(path: str | Path) -> Path:
    """The file at `path`, or the ready-made config of that name: `reasonrank-7b`, `demo/demo`.

    Raises ConfigError where there is neither.
    """
    given, ready_made = Path(path), CONFIGS_DIRECTORY / f"{path}.yaml"
    if given.exists() and not given.is_dir():
        return given
    if not ready_made.is_file():
        files = [*CONFIGS_DIRECTORY.glob("*.yaml"), *CONFIGS_DIRECTORY.glob("demo/*.yaml")]
        names = sorted(str(file.relative_to(CONFIGS_DIRECTORY).with_suffix("")) for file in files)
        raise ConfigError(f"cannot read config {path}: no such file, nor a ready-made one ({', '.join(names)})")
    return ready_made


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> JobConfig:
    """Read a YAML job config, a file or the name of a ready-made one, and apply `--section.key=value` overrides.

    `--date=YYYY-MM-DD` among them stands for each `{date}` in the config's values.

    Raises ConfigError that lists every problem by its dotted key.
    """
    data = _read(path, overrides)
    check_filled(data)
    return _validate(JobConfig, data, path)


def load_section(path: str | Path | None, name: str, model: type[S], overrides: Sequence[str] = ()) -> S:
    """Read only section `name` of a job config: what a job of one stage needs of the file that describes them all.

    Raises ConfigError, also where the file has a section that no job knows.
    """
    return _validate(model, _read_section(path, name, overrides) or {}, path, (name,))


def load_section_if_given(path: str | Path | None, name: str, model: type[S]) -> S | None:
    """As `load_section`; None where the file has no such section."""
    section = _read_section(path, name)
    return None if section is None else _validate(model, section, path, (name,))


def _read_section(path: str | Path | None, name: str, overrides: Sequence[str] = ()) -> Any:
    data = _read(path, overrides)
    try:
        check_known_keys(data, JobConfig.model_fields)
    except ValueError as error:
        raise ConfigError(f"config {path or '(command line)'}: {error}") from error
    return data.get(name)


def _read(path: str | Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    data: Any = {}
    if path is not None:
        try:
            data = yaml.safe_load(config_path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read config {path}: {error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"config {path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"config {path} must be a mapping of sections, got {type(data).__name__}")
    dates = [override for override in overrides if override.startswith("--date=")]
    for override in overrides:
        if override not in dates:
            _apply_override(data, override)
    return fill_date(data, dates[-1].removeprefix("--date=")) if dates else data


def _validate(model: type[S], data: Any, path: str | Path | None, prefix: tuple[str, ...] = ()) -> S:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [f"  {_dotted((*prefix, *problem['loc']))}: {_message(problem)}" for problem in error.errors()]
        raise ConfigError(f"config {path or '(command line)'}:\n" + "\n".join(lines)) from error


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.removeprefix("--").partition("=")
    if not separator or not override.startswith("--"):
        raise ConfigError(f"cannot read {override!r}; overrides look like --engine.model=PATH")
    *sections, last = key.replace("-", "_").split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"cannot set {key}: {section} is not a section")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the value of {key}: {error}") from error


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(top level)"


def _message(problem: Mapping[str, Any]) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    return "missing; it has no default" if problem["type"] == "missing" else message
