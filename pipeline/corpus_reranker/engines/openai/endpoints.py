"""Chooses the endpoint for each request, and detects when no endpoint answers."""

import asyncio
import contextlib
import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from corpus_reranker.engines.openai.concurrency import ConcurrencyLimit
from corpus_reranker.engines.openai.failures import Failure, backoff_seconds
from corpus_reranker.errors import EngineDeadError


@dataclass(slots=True, eq=False)
class Endpoint:
    """The state of one URL. Times are those of the event loop.

    Attributes:
        sent_at: For each request in flight, when it was sent.
        paused_until: No request is sent before this time.
        failures: Number of consecutive failures, each of a request that was sent after the previous failure.
        failing_since: Time of the first of these failures.
    """

    url: str
    limit: ConcurrencyLimit
    sent_at: dict[int, float] = field(default_factory=dict)
    paused_until: float = 0.0
    failures: int = 0
    failing_since: float | None = None
    last_failure: str = ""

    @property
    def in_flight(self) -> int:
        return len(self.sent_at)

    @property
    def capacity(self) -> int:
        """Maximum number of requests in flight. While the endpoint fails, one request tests whether it is back."""
        return 1 if self.failures > 1 else self.limit.value

    @property
    def free_slots(self) -> int:
        return max(self.capacity - self.in_flight, 0)

    def outage_seconds(self, now: float) -> float:
        """How long the endpoint has not answered; 0 while a request from before the first failure still runs."""
        since = self.failing_since
        if since is None or any(sent_at < since for sent_at in self.sent_at.values()):
            return 0.0
        return now - since


class EndpointPool:
    """Gives each request a slot at the least loaded endpoint. All calls come from one event loop."""

    def __init__(self, urls: Sequence[str], max_in_flight: int, max_outage_seconds: float) -> None:
        """`max_in_flight` is the maximum number of requests in flight at each URL."""
        self.answers = 0
        self.endpoints = [Endpoint(url, ConcurrencyLimit(max_in_flight)) for url in urls]
        self._max_outage_seconds = max_outage_seconds
        self._numbers = itertools.count()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rng = random.Random(0)

    @property
    def concurrency(self) -> int:
        """Number of concurrent requests that the endpoints accept, as far as is known."""
        return sum(endpoint.capacity for endpoint in self.endpoints)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[tuple[Endpoint, float]]:
        """Wait for a slot at an endpoint and hold it. Yields the endpoint, and the time at which the slot was taken.

        Raises:
            EngineDeadError: No endpoint has answered for too long.
        """
        while (endpoint := self._least_loaded()) is None:
            await self._wait()
        number, now = next(self._numbers), self._now()
        endpoint.sent_at[number] = now
        endpoint.limit.sent(endpoint.in_flight)
        try:
            yield endpoint, now
        finally:
            del endpoint.sent_at[number]
            self._wake()

    def answered(self, endpoint: Endpoint) -> None:
        """Count an answer. Call it while the slot is held."""
        if endpoint.failures > 1:
            endpoint.limit.restart()
        self.answers += 1
        endpoint.failures, endpoint.failing_since = 0, None
        endpoint.limit.answered()

    def failed(self, endpoint: Endpoint, sent_at: float, failure: Failure) -> None:
        """Count a failure of the server. Call it while the slot is held.

        Raises:
            EngineDeadError: No endpoint has answered for too long, or the server asks to wait for too long.
        """
        now = self._now()
        endpoint.last_failure = failure.reason
        endpoint.failing_since = now if endpoint.failing_since is None else endpoint.failing_since
        if endpoint.limit.refused(endpoint.in_flight, sent_at, now):
            endpoint.failures += 1
            if endpoint.failures > 1:
                self._pause(endpoint, now + backoff_seconds(endpoint.failures - 1, self._rng))
        if failure.retry_after_seconds is not None:
            self._pause(endpoint, now + failure.retry_after_seconds)
        self._check_outage(now)

    def _pause(self, endpoint: Endpoint, until: float) -> None:
        endpoint.paused_until = max(endpoint.paused_until, until)

    def _check_outage(self, now: float) -> None:
        longest = self._max_outage_seconds
        down = [max(each.outage_seconds(now), each.paused_until - now) > longest for each in self.endpoints]
        if all(down):
            raise EngineDeadError(
                f"no endpoint accepts requests for more than {longest:g} s (engine.max_outage_seconds);"
                f" {self.endpoints[0].last_failure}"
            )

    def _least_loaded(self) -> Endpoint | None:
        now = self._now()
        free = [each for each in self.endpoints if each.free_slots and each.paused_until <= now]
        return min(free, key=lambda each: (each.failures > 1, each.in_flight / each.capacity), default=None)

    async def _wait(self) -> None:
        """Wait until a slot is released or a pause ends."""
        now = self._now()
        pauses = [each.paused_until - now for each in self.endpoints if each.paused_until > now]
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(woken)
        try:
            async with asyncio.timeout(min(pauses, default=None)):
                await woken
        except TimeoutError:
            pass
        except asyncio.CancelledError:  # if it was already woken, another request needs the slot
            self._wake()
            raise

    def _wake(self) -> None:
        """Wake as many requests as there are free slots."""
        free = sum(each.free_slots for each in self.endpoints)
        while free > 0 and self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                free -= 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
