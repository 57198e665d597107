"""A simulated engine for benchmarks: a cost model of continuous batching with random answers; no LLM.

Simulated time runs `speedup` times as fast as the clock. Lengths and answers depend only on the seeds and the prompt,
so that two runs differ only in their timing.
"""

import asyncio
import hashlib
import math
import random
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.engines.batch_model import Batch, BatchCosts, SimulatedSequence
from corpus_reranker.engines.scripted import passages
from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.types import Completion, Prompt, SamplingParams

_Z_99 = 2.3263478740408408
"""99th percentile of the standard normal distribution."""


class SimulatedSettings(EngineSettings):
    """A simulated engine for benchmarks: a cost model of vLLM's scheduler, with random answers.

    The defaults model ReasonRank-7B in bfloat16 on one H100 SXM. They are computed from data sheets, not measured.
    H100 SXM (NVIDIA's data sheet): 3.35 TB/s, 989 TFLOP/s dense bfloat16, 80 GB. Qwen2.5-7B (its model card and
    config): 7.6e9 parameters, 28 layers, 4 KV heads of 128, so 15.2 GB of weights and 57,344 bytes per KV token.
    Window lengths: 5,690 prompt and 750 output tokens. Assumptions: the GPU reaches 75% of its bandwidth and 50% of its
    operations, and activations take 2 GB.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset(
        {
            "speedup",
            "max_num_seqs",
            "max_num_batched_tokens",
            "kv_cache_tokens",
            "prefill_tokens_per_second",
            "step_seconds",
            "step_seconds_per_sequence",
        }
    )

    kind: Literal["simulated"] = Field("simulated", description="The simulated engine.")
    model: str = Field("simulated", description="Model name that the output records.")
    tokenizer: str | None = Field(
        "words", description='Tokenizer of the prompts: "words" (built in), a folder, hub id or URL.'
    )
    speedup: float = Field(1.0, gt=0, description="Simulated seconds per second of wall-clock time.")
    max_num_batched_tokens: int = Field(8192, ge=1, description="Token budget of one scheduler step.")
    kv_cache_tokens: int = Field(
        950_000, ge=1, description="Tokens that the KV cache holds. (0.9 x 80 GB - 15.2 GB - 2 GB) / 57,344 bytes."
    )
    prefill_tokens_per_second: float = Field(
        30_000.0,
        gt=0,
        description="Prefill rate. 0.5 x 989e12 / (2 x 7.6e9 operations per token), minus some for attention.",
    )
    step_seconds: float = Field(
        0.006, gt=0, description="Fixed time of a step: reading the weights, 15.2 GB / (0.75 x 3.35 TB/s)."
    )
    step_seconds_per_sequence: float = Field(
        0.00014,
        ge=0,
        description="Time that each decoding sequence adds to a step: reading its KV cache, "
        "6,065 tokens x 57,344 bytes / (0.75 x 3.35 TB/s).",
    )
    prompt_tokens: int | None = Field(
        None,
        ge=1,
        description="Assumed length of every prompt. None uses the real length.",
    )
    output_tokens_mean: float = Field(750.0, ge=1, description="Mean output length; lengths are lognormal.")
    output_tokens_p99: float = Field(
        3000.0,
        ge=1,
        description="99th percentile of the output length. If it equals the mean, all outputs have that length.",
    )
    output_tokens_cap: int | None = Field(
        None, ge=1, description="Maximum output length. An output that is cut here still has a complete answer."
    )
    answer_format: Literal["reasoning", "plain"] = Field("reasoning", description="Format of the random answers.")
    seed: int = Field(0, description="Seed of lengths and answers.")

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(simulated=True)

    @property
    def output_tokens_sigma(self) -> float:
        """Sigma of the lognormal distribution: the smaller solution of p99 / mean = exp(z sigma - sigma^2 / 2)."""
        return _Z_99 - math.sqrt(max(_Z_99**2 - 2 * math.log(self.output_tokens_p99 / self.output_tokens_mean), 0.0))

    @model_validator(mode="after")
    def _lognormal_exists(self) -> Self:
        most = math.exp(_Z_99**2 / 2)
        if not 1 <= self.output_tokens_p99 / self.output_tokens_mean <= most:
            raise ValueError(
                f"output_tokens_p99 must be from 1 to {most:.1f} times output_tokens_mean, "
                f"got {self.output_tokens_p99:g} and {self.output_tokens_mean:g}"
            )
        return self


class SimulatedEngine:
    """Completes requests when the cost model finishes them. One timer is set to the next event of the batch."""

    settings_class: ClassVar[type[EngineSettings]] = SimulatedSettings

    def __init__(self, settings: SimulatedSettings, context: EngineContext | None = None) -> None:
        self._settings = settings
        names = BatchCosts.__dataclass_fields__
        self._batch = Batch(BatchCosts(**{name: getattr(settings, name) for name in names}))
        self._completions: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self._started_at: float | None = None
        self._requests = 0
        self._prompt_tokens = 0
        self._output_tokens = 0

    @property
    def capabilities(self) -> EngineCapabilities:
        return self._settings.capabilities

    async def start(self) -> None:
        self._started_at = asyncio.get_running_loop().time()

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        """Return a random permutation of the passages after a simulated delay. Cancelling frees the slot."""
        prompt_tokens = self._settings.prompt_tokens or len(prompt.token_ids)
        remaining_tokens = self._settings.max_model_len - prompt_tokens
        if remaining_tokens < 1:
            raise RequestError(
                f"prompt of {prompt_tokens} tokens exceeds the context of {self._settings.max_model_len}"
            )
        rng = _rng(self._settings.seed, prompt, params)
        drawn_tokens = self._draw_output_tokens(rng)
        output_tokens = min(drawn_tokens, params.max_tokens, remaining_tokens)
        await self._run(SimulatedSequence(prompt_tokens, output_tokens))
        cut = drawn_tokens > output_tokens
        text = _answer(rng, len(passages(prompt.text)), self._settings.answer_format, cut)
        return Completion(text, "length" if cut else "stop", prompt_tokens, output_tokens)

    def progress(self) -> int:
        """Completed requests. The cost model never hangs."""
        return self._requests

    async def stop(self) -> None:
        """End requests in flight with EngineDeadError. Safe to call twice."""
        self._started_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._completions:
            _, completion = self._completions.popitem()
            if not completion.done():
                completion.set_exception(EngineDeadError("the simulated engine was stopped"))

    def info(self) -> dict[str, Any]:
        """Capacity, and averages from the first request to the last completion, which show how busy the engine was."""
        if self._started_at is not None:
            self._wake()
        totals, batch = self._batch.totals, self._batch
        seconds = totals.seconds or 1.0
        return {
            "engine": "simulated",
            "simulated": True,
            "max_num_seqs": self._settings.max_num_seqs,
            "max_model_len": self._settings.max_model_len,
            "kv_cache_tokens": self._settings.kv_cache_tokens,
            "speedup": self._settings.speedup,
            "requests": self._requests,
            "prompt_tokens": self._prompt_tokens,
            "output_tokens": self._output_tokens,
            "simulated_seconds": totals.seconds,
            "busy_fraction": totals.busy_seconds / seconds,
            "mean_running": totals.running_seconds / seconds,
            "mean_waiting": totals.waiting_seconds / seconds,
            "peak_running": totals.peak_running,
            "in_flight": batch.running + batch.waiting,
        }

    async def _run(self, sequence: SimulatedSequence) -> None:
        if self._started_at is None:
            raise EngineDeadError("the simulated engine is not running")
        try:
            ticket = self._batch.submit(self._now(), sequence)
        except ValueError as error:
            raise RequestError(str(error)) from error
        completion = self._completions[ticket] = asyncio.get_running_loop().create_future()
        self._wake()
        try:
            await completion
        except asyncio.CancelledError:
            if self._completions.pop(ticket, None) is not None:
                self._batch.cancel(self._now(), ticket)
                self._wake()
            raise
        self._requests += 1
        self._prompt_tokens += sequence.prompt_tokens
        self._output_tokens += sequence.output_tokens

    def _now(self) -> float:
        """Simulated seconds since the start."""
        assert self._started_at is not None
        return (asyncio.get_running_loop().time() - self._started_at) * self._settings.speedup

    def _wake(self) -> None:
        """Complete the finished requests, and set the timer to the batch's next event."""
        for ticket, _ in self._batch.advance(self._now()):
            completion = self._completions.pop(ticket)
            if not completion.done():  # cancelled, and its caller has not run yet
                completion.set_result(None)
        event = self._batch.next_event()
        if event is None or self._started_at is None:
            return
        due = self._started_at + event / self._settings.speedup
        if self._timer is not None:
            if self._timer_due <= due:
                return  # it fires early and is set again, which is cheaper than a new timer for every request
            self._timer.cancel()
        self._timer, self._timer_due = asyncio.get_running_loop().call_at(due, self._on_timer), due

    def _on_timer(self) -> None:
        self._timer = None  # before _wake, because uvloop's timers may fire half a millisecond early
        self._wake()

    def _draw_output_tokens(self, rng: random.Random) -> int:
        sigma = self._settings.output_tokens_sigma
        drawn = rng.lognormvariate(math.log(self._settings.output_tokens_mean) - sigma**2 / 2, sigma)
        return max(1, min(round(drawn), self._settings.output_tokens_cap or round(drawn)))


def _rng(seed: int, prompt: Prompt, params: SamplingParams) -> random.Random:
    return random.Random(hashlib.blake2b(f"{seed}/{params.seed}/{prompt.text}".encode(), digest_size=8).digest())


def _answer(rng: random.Random, num_passages: int, answer_format: str, cut: bool) -> str:
    """A ranking in the given answer format; a truncated answer has no ranking."""
    order = rng.sample(range(1, num_passages + 1), num_passages)
    ranking = "" if cut else " > ".join(f"[{number}]" for number in order)
    if answer_format == "plain":
        return ranking
    return f"<think>Simulated.</think> <answer>{ranking}</answer>" if ranking else "<think>Simulated."
