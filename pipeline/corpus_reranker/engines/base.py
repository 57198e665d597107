"""What every engine and every pre-ranker has: settings, capabilities, and the calls that a replica makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field

from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.section import Section
from corpus_reranker.types import Completion, Prompt, SamplingParams

_NEVER_DECIDES_ANSWERS = frozenset({"download_dir", "hang_timeout_seconds"})


@dataclass(frozen=True, slots=True)
class EngineCapabilities:
    """What an engine can do and what it needs. Code asks for these, never for the class of the settings."""

    token_ids: bool = True
    """Reads `Prompt.token_ids`. False: it reads `Prompt.text` and tokenizes by itself."""
    continuation: bool = True
    """Goes on behind any text that the prompt ends with, such as open reasoning. A chat API does not."""
    regex: bool = False
    """Obeys `SamplingParams.regex`."""
    choice_logprobs: bool = False
    """Gives `Completion.choice_logprobs` for `Prompt.choices`."""
    reasoning_budget: bool = False
    """Obeys `SamplingParams.max_reasoning_tokens`: closes open reasoning by itself, inside one request."""
    simulated: bool = False
    """The answers are not those of a model; the output says so."""
    device: Literal["gpu", "cpu"] | None = None
    """Where the model runs in this process; None for an engine without a model of its own."""
    gpus: int = 0
    """GPUs of one replica, over all its nodes."""
    gpu_memory_utilization: float = 0.0
    """Fraction of each of these GPUs that the engine takes."""


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What the job config says beside the engine's own section."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    """How to reach a model at an s3:// URL."""
    close_reasoning: bool = False
    """generation.close_reasoning: an engine with a reasoning budget prepares for it."""


class EngineSettings(Section):
    """Settings that every engine and every pre-ranker has. An outside engine's settings class derives from this."""

    speed_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ when a run is resumed: they decide how fast the engine answers, not what."""

    kind: str = Field(description='Name of a registered engine, or "module:Class" of one outside the package.')
    model: str = Field(
        description="Folder, Hugging Face hub id (hf://owner/name@revision pins a revision), or URL of a folder "
        "(s3://..., gs://...), which each node downloads once."
    )
    tokenizer: str | None = Field(None, description='As `model`; "words" for a stand-in. None: the model\'s own.')
    max_model_len: int = Field(32768, gt=0, description="Context in tokens: prompt and output together.")
    max_num_seqs: int = Field(256, ge=1, description="Most windows in the engine's batch, if its KV cache holds them.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the model or its tokenizer.")
    download_dir: str | None = Field(
        None,
        description="Folder on each node for downloads of models. None: of hub ids the hub's own cache (HF_HOME), of "
        "URLs corpus-reranker/models in the user's cache folder.",
    )
    hang_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="The engine counts as dead after so long without any progress while requests are in flight. "
        "Progress is each engine step that yields a token, so this need not cover a whole window.",
    )

    @property
    def capabilities(self) -> EngineCapabilities:
        """What these settings promise before the engine has started."""
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

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings that decide the answers (JSON values)."""
        return self.model_dump(mode="json", exclude={*_NEVER_DECIDES_ANSWERS, *self.speed_only})

    def preflight(self, section: str, storage: StorageConfig) -> list[str]:
        """Check what can be seen on the driver, before any actor starts.

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
        """What the engine can do; exact once it has started."""
        ...

    async def start(self) -> None:
        """Load the model. Raises EngineStartError or ConfigError with the reason: the replica does not start."""
        ...

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Answer one prompt. Cancelling the call aborts the request in the engine.

        Raises:
            RequestError: This request failed.
            EngineDeadError: No request can be answered any more.
        """
        ...

    def progress(self) -> int:
        """A counter that grows whenever the engine makes progress on any request. May stay 0 if nothing tells."""
        ...

    async def stop(self) -> None:
        """Free what `start` took. Safe to call twice, and after a failed start."""
        ...

    def info(self) -> dict[str, Any]:
        """Name, version and capacity for the output's readers (JSON values)."""
        ...


class PreRanker(Protocol):
    """The pre-ranker of one replica. Constructed and called as an Engine is."""

    settings_class: ClassVar[type[EngineSettings]]

    async def start(self) -> None:
        """Load the model. Raises EngineStartError or ConfigError with the reason: the replica does not start."""
        ...

    async def score(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """How well each passage answers the query, higher is better.

        Raises:
            RequestError: These passages cannot be scored.
            EngineDeadError: No passages can be scored any more.
        """
        ...

    def progress(self) -> int:
        """As Engine.progress."""
        ...

    async def stop(self) -> None:
        """Free what `start` took. Safe to call twice, and after a failed start."""
        ...

    def info(self) -> dict[str, Any]:
        """Name, version and model for the output's readers (JSON values)."""
        ...
