"""The protocols of engines and pre-rankers: settings, capabilities, and the calls that a replica makes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field

from corpus_reranker.engines.prices import TokenPrices
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.section import Section
from corpus_reranker.types import Completion, Prompt, SamplingParams

_SPEED_ONLY_OF_ALL_ENGINES = frozenset({"download_dir", "hang_timeout_seconds"})
"""Fields of EngineSettings that do not determine the answers of any engine."""


@dataclass(frozen=True, slots=True)
class EngineCapabilities:
    """What an engine can do and what it needs. Callers check these flags, never the class of the settings."""

    token_ids: bool = True
    """The engine reads `Prompt.token_ids`. False: it reads `Prompt.text` and runs its own tokenizer."""
    continuation: bool = True
    """The engine continues a prompt that ends inside the response, such as open reasoning. A chat API cannot."""
    regex: bool = False
    """The engine supports `SamplingParams.regex` (structured output)."""
    choice_logprobs: bool = False
    """The engine returns `Completion.choice_logprobs` for `Prompt.choices`."""
    reasoning_budget: bool = False
    """The engine supports `SamplingParams.max_reasoning_tokens`: it closes open reasoning within one request."""
    simulated: bool = False
    """The answers do not come from a model. The output records this."""
    device: Literal["gpu", "cpu"] | None = None
    """Device on which this process runs the model; None for an engine without a local model."""
    gpus: int = 0
    """GPUs of one replica, over all its nodes."""
    gpu_memory_utilization: float = 0.0
    """Fraction of the memory of each of these GPUs that the engine reserves."""


def _count_nothing(name: str, amount: int) -> None:
    """The default of EngineContext.count."""


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine needs besides its own section."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    """How to reach a model at an s3:// URL."""
    close_reasoning: bool = False
    """The config key generation.close_reasoning. If it is set, an engine may enable its reasoning budget."""
    replicas: int = 1
    """Maximum number of replicas. They share the limits of the whole run."""
    count: Callable[[str, int], None] = _count_nothing
    """Adds to a count of the run's progress. An engine with billed tokens adds to the counts in `prices.BILLED`."""


class EngineSettings(Section):
    """Settings of every engine and pre-ranker. Settings classes outside the package derive from this class."""

    speed_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ when a run is resumed: they affect the speed of the engine, not its answers."""

    kind: str = Field(description='Name of a registered engine, or "module:Class" of one outside the package.')
    model: str = Field(
        description="Model weights: a folder on every node, a Hugging Face hub id (hf://owner/name@revision pins a "
        "revision), or the URL of a folder (s3://..., gs://...), which each node downloads once."
    )
    tokenizer: str | None = Field(
        None,
        description="Tokenizer: a folder, hub id or URL, as for `model`. None uses the tokenizer of `model`. "
        '"words" is a built-in word tokenizer that needs no files, for tests.',
    )
    max_model_len: int = Field(32768, gt=0, description="Context length in tokens, prompt and output together.")
    max_num_seqs: int = Field(
        256, ge=1, description="Maximum number of windows in the engine's batch. The KV cache may hold fewer."
    )
    trust_remote_code: bool = Field(False, description="Allow custom code from the model's repository to run.")
    download_dir: str | None = Field(
        None,
        description="Folder on each node for downloaded models. None uses the Hugging Face cache (HF_HOME) for hub "
        "ids, and corpus-reranker/models in the user's cache folder for URLs.",
    )
    hang_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="The engine is declared dead after this time without progress while requests are in flight. "
        "Every generated token is progress, so this can be shorter than a window takes.",
    )

    @property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities that are known before the engine starts."""
        return EngineCapabilities()

    @property
    def tokenizer_source(self) -> str:
        return self.tokenizer or self.model

    @property
    def gpus_per_replica(self) -> int:
        return self.capabilities.gpus

    @property
    def placement_bundles(self) -> tuple[dict[str, float], ...] | None:
        """GPUs of a replica that spans nodes, as the bundles of a Ray placement group; None if one node holds it."""
        return None

    @property
    def simulated(self) -> bool:
        return self.capabilities.simulated

    @property
    def token_prices(self) -> TokenPrices | None:
        """The prices of tokens; None if nothing is billed, or the prices are not known."""
        return None

    @property
    def probe_counts(self) -> dict[str, int]:
        """What the requests of `probed` add to the counts of `EngineContext.count`."""
        return {}

    def probed(self) -> Self:
        """These settings with the capabilities that the engine's server reports; unchanged without a server.

        The driver calls this before any actor starts.

        Raises:
            ConfigError: The server cannot be used with these settings.
        """
        return self

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings that determine the answers (JSON values). The fingerprint adds the content of the models."""
        return self.model_dump(mode="json", exclude={*_SPEED_ONLY_OF_ALL_ENGINES, *self.speed_only})

    def preflight(self, section: str, storage: StorageConfig) -> list[str]:
        """Check on the driver, before any actor starts, whether the engine can start with these settings.

        Args:
            section: Dotted config section of these settings, for messages: "engine", "pre_ranker.engine".
            storage: How to reach a model at an s3:// URL.

        Returns:
            Warnings.

        Raises:
            ConfigError: The engine cannot start with these settings.
        """
        return []


class Engine(Protocol):
    """The engine of one replica. All calls come from one event loop, that of the replica's actor.

    A class is constructed with its settings and an EngineContext. Its `settings_class` names the settings.
    """

    settings_class: ClassVar[type[EngineSettings]]

    @property
    def capabilities(self) -> EngineCapabilities:
        """What the engine can do. This is exact only after `start`."""
        ...

    async def start(self) -> None:
        """Load the model. Raises EngineStartError or ConfigError with the reason if the replica cannot start."""
        ...

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Answer one prompt. Cancelling the call aborts the request in the engine.

        Raises:
            RequestError: This request failed.
            EngineDeadError: The engine cannot answer any further request.
        """
        ...

    def progress(self) -> int:
        """A counter that grows when the engine makes progress on any request; always 0 if progress is not known."""
        ...

    async def stop(self) -> None:
        """Free what `start` took. Safe to call twice, and after a failed start."""
        ...

    def info(self) -> dict[str, Any]:
        """Name, version and capacity, for readers of the output (JSON values)."""
        ...


class PreRanker(Protocol):
    """The pre-ranker of one replica. Constructed and called as an Engine is."""

    settings_class: ClassVar[type[EngineSettings]]

    async def start(self) -> None:
        """Load the model. Raises EngineStartError or ConfigError with the reason if the replica cannot start."""
        ...

    async def score(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """How well each passage answers the query, higher is better.

        Raises:
            RequestError: These passages cannot be scored.
            EngineDeadError: The pre-ranker cannot score any further passage.
        """
        ...

    def progress(self) -> int:
        """As Engine.progress."""
        ...

    async def stop(self) -> None:
        """Free what `start` took. Safe to call twice, and after a failed start."""
        ...

    def info(self) -> dict[str, Any]:
        """Name, version and model, for readers of the output (JSON values)."""
        ...
