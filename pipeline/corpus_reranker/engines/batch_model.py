"""A cost model of continuous batching, in simulated seconds. Pure: no clock, no asyncio.

Taken from vLLM's scheduler (v1, first come first served, chunked prefill):
- Every step gives each decoding sequence one token, and fills the rest of its token budget with prompt tokens of
  admitted sequences whose prefill has not ended, the oldest first.
- A waiting request is admitted when a slot (`max_num_seqs`) and KV cache for it are free; later requests wait as well.

Simplified:
- A step lasts `step_seconds` + `step_seconds_per_sequence` x decoding sequences + prompt tokens / prefill rate.
- Steps are continuous: between two events the batch stays the same, so tokens flow at a constant rate, and a division
  gives the time of the next event. An event is the end of a prefill, the end of a sequence, or a request that arrives
  or is cancelled. A request therefore takes a few events, however many tokens it has.
- A request reserves KV cache for its prompt and its whole output at admission. vLLM reserves only what is
  needed at that time and preempts when the cache is full, so it runs somewhat more requests at once than this model.
- No prefix cache.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter


@dataclass(frozen=True, slots=True)
class BatchCosts:
    """Costs of a step, and limits of a batch."""

    prefill_tokens_per_second: float
    step_seconds: float
    step_seconds_per_sequence: float
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_cache_tokens: int


@dataclass(frozen=True, slots=True)
class SimulatedSequence:
    """One request: prompt and output in tokens."""

    prompt_tokens: int
    output_tokens: int

    @property
    def kv_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(slots=True)
class BatchTotals:
    """Integrals over simulated time from the first request to the last finish, for averages."""

    seconds: float = 0.0
    busy_seconds: float = 0.0
    running_seconds: float = 0.0
    waiting_seconds: float = 0.0
    peak_running: int = 0
    peak_kv_tokens: int = 0


class Batch:
    """Sequences that wait, prefill and decode. Times are simulated seconds; they must not decrease between calls."""

    def __init__(self, costs: BatchCosts, now: float = 0.0) -> None:
        self.totals = BatchTotals()
        self._costs = costs
        self._now = now
        self._tickets = 0
        self._idle_seconds = 0.0
        self._kv_tokens = 0
        self._waiting: OrderedDict[int, SimulatedSequence] = OrderedDict()
        self._prefilling: OrderedDict[int, SimulatedSequence] = OrderedDict()
        self._prompt_tokens_left = 0.0
        """Prompt tokens of the oldest prefilling sequence that are still to be prefilled."""
        self._decoding: dict[int, SimulatedSequence] = {}
        self._tokens_each = 0.0
        """Output tokens of a sequence that has decoded from the start; all sequences advance at the same rate."""
        self._finish_heap: list[tuple[float, int]] = []
        """Heap of (`_tokens_each` at the end, ticket). Entries of cancelled tickets stay until they are at the top."""
        self._finished: list[tuple[int, float]] = []

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, now: float, sequence: SimulatedSequence) -> int:
        """Add a sequence and return its ticket. Raises ValueError if it alone exceeds the KV cache."""
        if sequence.kv_tokens > self._costs.kv_cache_tokens:
            raise ValueError(
                f"{sequence.kv_tokens} tokens do not fit the KV cache of {self._costs.kv_cache_tokens} tokens"
            )
        self._move_to(now)
        self.totals.seconds += self._idle_seconds if self._tickets else 0.0
        self._idle_seconds = 0.0
        self._tickets += 1
        self._waiting[self._tickets] = sequence
        self._admit()
        return self._tickets

    def cancel(self, now: float, ticket: int) -> None:
        """Cancel a sequence and free its slot and KV cache. Does nothing if the ticket has finished."""
        self._move_to(now)
        if self._waiting.pop(ticket, None) is not None:
            self._admit()  # a sequence behind it may be small enough
            return
        if ticket in self._prefilling:
            oldest = next(iter(self._prefilling)) == ticket
            self._release(self._prefilling.pop(ticket))
            if oldest:
                self._next_prefill()
        elif ticket in self._decoding:
            self._release(self._decoding.pop(ticket))
        self._admit()

    def advance(self, now: float) -> list[tuple[int, float]]:
        """Tickets that finished since the last call, each with its time, in order."""
        self._move_to(now)
        finished, self._finished = self._finished, []
        return finished

    def next_event(self) -> float | None:
        """Time of the next change if nothing is submitted or cancelled; None if the batch is empty."""
        if self._finished:
            return self._now
        event = self._next()
        return None if event is None else self._now + event[0]

    def _move_to(self, now: float) -> None:
        """Apply all events up to `now`."""
        while (event := self._next()) is not None and self._now + event[0] <= now:
            seconds, apply = event
            self._flow(seconds)
            apply()
        self._flow(max(now - self._now, 0.0))

    def _rates(self) -> tuple[float, float]:
        """Output tokens per second of each decoding sequence, prompt tokens per second of the oldest prefilling one."""
        decoding, costs = len(self._decoding), self._costs
        step_seconds = costs.step_seconds + costs.step_seconds_per_sequence * decoding
        if not self._prefilling:
            return 1 / step_seconds, 0.0
        prompt_tokens = max(costs.max_num_batched_tokens - decoding, 1)
        step_seconds += prompt_tokens / costs.prefill_tokens_per_second
        return 1 / step_seconds, prompt_tokens / step_seconds

    def _next(self) -> tuple[float, Callable[[], None]] | None:
        """Seconds to the next event, and the function that applies it."""
        while self._finish_heap and self._finish_heap[0][1] not in self._decoding:
            heapq.heappop(self._finish_heap)
        decode_rate, prefill_rate = self._rates()
        events: list[tuple[float, Callable[[], None]]] = []
        if self._prefilling:
            events.append((max(self._prompt_tokens_left / prefill_rate, 0.0), self._prefilled))
        if self._finish_heap:
            events.append((max((self._finish_heap[0][0] - self._tokens_each) / decode_rate, 0.0), self._finish))
        return min(events, key=itemgetter(0), default=None)

    def _flow(self, seconds: float) -> None:
        decode_rate, prefill_rate = self._rates()
        self._now += seconds
        self._tokens_each += decode_rate * seconds
        self._prompt_tokens_left -= prefill_rate * seconds
        totals, running = self.totals, self.running
        if not running:  # nothing waits either: an empty batch admits at once
            self._idle_seconds += seconds
            return
        totals.seconds += seconds
        totals.busy_seconds += seconds
        totals.running_seconds += running * seconds
        totals.waiting_seconds += len(self._waiting) * seconds

    def _prefilled(self) -> None:
        """End the prefill of the oldest sequence, which yields its first output token."""
        ticket, sequence = self._prefilling.popitem(last=False)
        self._decoding[ticket] = sequence
        self._next_prefill()
        heapq.heappush(self._finish_heap, (self._tokens_each + sequence.output_tokens - 1, ticket))

    def _finish(self) -> None:
        """Finish the sequence that is due next."""
        self._tokens_each, ticket = heapq.heappop(self._finish_heap)
        self._release(self._decoding.pop(ticket))
        self._finished.append((ticket, self._now))
        self._admit()

    def _release(self, sequence: SimulatedSequence) -> None:
        self._kv_tokens -= sequence.kv_tokens

    def _admit(self) -> None:
        while self._waiting and self.running < self._costs.max_num_seqs:
            ticket, sequence = next(iter(self._waiting.items()))
            if self._kv_tokens + sequence.kv_tokens > self._costs.kv_cache_tokens:
                break
            del self._waiting[ticket]
            self._kv_tokens += sequence.kv_tokens
            self._prefilling[ticket] = sequence
            if len(self._prefilling) == 1:
                self._next_prefill()
        self.totals.peak_running = max(self.totals.peak_running, self.running)
        self.totals.peak_kv_tokens = max(self.totals.peak_kv_tokens, self._kv_tokens)

    def _next_prefill(self) -> None:
        oldest = next(iter(self._prefilling.values()), None)
        self._prompt_tokens_left = float(oldest.prompt_tokens) if oldest else 0.0
