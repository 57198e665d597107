"""The retry policy: when a window is requested again, and with which sampling parameters."""

import random
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from corpus_reranker.types import SamplingParams


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries, backoff and deadlines of a query's windows.

    A window without a usable answer is requested again with another seed. At temperature 0 another seed alone repeats
    the answer, so a retry samples at `retry_temperature` or the configured temperature, whichever is higher. A window
    whose attempts all fail keeps its input order.

    Attributes:
        max_attempts: Maximum number of requests for one window, including the first.
        retry_temperature: Minimum temperature of a retry.
        backoff_seconds: Delay before a retry after an error. It doubles with each retry and is multiplied by a random
            factor from 0.5 to 1.5.
        window_timeout_seconds: Timeout of one request. A request that takes longer is cancelled.
        query_deadline_seconds: Deadline of a query. After it, the remaining windows are not requested; they keep their
            input order and get the status `timeout`.
        force_answer: If every attempt ends without a ranking, request the window once more with structured output that
            can only be a ranking (finish_reason `forced`). Needs an answer format that supports it.
    """

    max_attempts: int = 2
    retry_temperature: float = 0.6
    backoff_seconds: float = 1.0
    window_timeout_seconds: float = 1800.0
    query_deadline_seconds: float = 14400.0
    force_answer: bool = False

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if self.window_timeout_seconds <= 0 or self.query_deadline_seconds <= 0:
            raise ValueError("window_timeout_seconds and query_deadline_seconds must be above 0")
        if self.backoff_seconds < 0 or self.retry_temperature < 0:
            raise ValueError("backoff_seconds and retry_temperature must not be below 0")

    def fingerprint_fields(self) -> dict[str, Any]:
        """The settings that determine the answers. The timeouts only determine which windows get an answer."""
        return {name: value for name, value in asdict(self).items() if not name.endswith("_seconds")}

    def sampling_params(self, sampling: SamplingParams, query_id: str, window: int, attempt: int) -> SamplingParams:
        """The sampling parameters of attempt number `attempt`, from 0, of a query's window number `window`.

        The seed depends only on these arguments, so that a resumed query samples the same completions.
        """
        seed = zlib.crc32(f"{sampling.seed}/{query_id}/{window}/{attempt}".encode())
        temperature = max(sampling.temperature, self.retry_temperature) if attempt else sampling.temperature
        return replace(sampling, seed=seed & 0x7FFFFFFF, temperature=temperature)

    def wait_seconds(self, query_id: str, window: int, attempt: int) -> float:
        """The wait before retry number `attempt`, from 1, after an error."""
        jitter = random.Random(f"{query_id}/{window}/{attempt}").uniform(0.5, 1.5)
        return self.backoff_seconds * float(2 ** (attempt - 1)) * jitter
