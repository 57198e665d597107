"""What every engine is, seen from a replica."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from pydantic import Field

from corpus_reranker.section import Section
from corpus_reranker.types import Completion, Prompt, SamplingParams


class EngineSettings(Section):
    """Settings every engine has."""

    speed_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that a run may be resumed with other values of: they decide how fast it answers, not what."""

    model: str = Field(description="Path or hub id of the model.")
    tokenizer: str | None = Field(None, description='Path or hub id of the tokenizer, "words" for a stand-in.')
    max_model_len: int = Field(32768, gt=0, description="Context in tokens: prompt and output together.")
    max_num_seqs: int = Field(
        256, ge=1, description="The most windows it works on at once, if its KV cache holds them."
    )
    trust_remote_code: bool = Field(False, description="Run code that the model or its tokenizer brings along.")

    @property
    def tokenizer_source(self) -> str:
        return self.tokenizer or self.model

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings that decide the answers (JSON values)."""
        return self.model_dump(mode="json", exclude=set(self.speed_only))

    @property
    def gpus_per_replica(self) -> int:
        return 0

    @property
    def simulated(self) -> bool:
        """True where the answers are not an LLM's; the output says so."""
        return False


class PreRanker(Protocol):
    """A replica's cheap pre-ranker. Calls come from the event loop of the replica's actor, as an Engine's do."""

    async def start(self) -> None:
        """Load the model. Raises EngineStartError or ConfigError with the reason: the replica does not start."""
        ...

    async def score(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """How well each passage answers the query, higher is better.

        Raises RequestError if these cannot be scored, EngineDeadError if none can be any more.
        """
        ...

    async def stop(self) -> None:
        """Free what `start` took. Safe to call twice, and after a failed start."""
        ...

    def info(self) -> dict[str, Any]:
        """What a reader of the output should know of it (JSON values)."""
        ...


class Engine(Protocol):
    """One replica's engine. All calls come from one event loop, that of the replica's actor."""

    async def start(self) -> None:
        """Load the model. Raises EngineStartError or ConfigError with the reason: the replica does not start."""
        ...

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Answer one prompt. Cancelling the call aborts the request in the engine.

        Raises RequestError if this request failed, EngineDeadError if no request can be answered any more.
        """
        ...

    async def stop(self) -> None:
        """Free what `start` took. Safe to call twice, and after a failed start."""
        ...

    def info(self) -> dict[str, Any]:
        """What a reader of the output should know of it: name, version, capacity (JSON values)."""
        ...
