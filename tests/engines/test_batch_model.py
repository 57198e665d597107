"""The cost model against a simulation of every step, and its limits under any load. Simulated time only."""

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.engines.batch_model import Batch, BatchCosts, SimulatedSequence

COSTS = BatchCosts(
    prefill_tokens_per_second=30_000.0,
    step_seconds=0.006,
    step_seconds_per_sequence=0.00014,
    max_num_seqs=64,
    max_num_batched_tokens=2048,
    kv_cache_tokens=300_000,
)


@dataclass
class Progress:
    sequence: SimulatedSequence
    prompt_left: int = field(init=False)
    output_left: int = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_left, self.output_left = self.sequence.prompt_tokens, self.sequence.output_tokens


def simulated_seconds(costs: BatchCosts, sequences: list[SimulatedSequence]) -> float:
    """Simulate every step for sequences that are all submitted at time 0: the reference for the model."""
    waiting, running, now = [Progress(sequence) for sequence in sequences], list[Progress](), 0.0
    while waiting or running:
        while waiting and len(running) < costs.max_num_seqs:
            kv_tokens = sum(progress.sequence.kv_tokens for progress in running)
            if kv_tokens + waiting[0].sequence.kv_tokens > costs.kv_cache_tokens:
                break
            running.append(waiting.pop(0))
        decoding = [progress for progress in running if not progress.prompt_left]
        prompt_tokens = 0
        budget = costs.max_num_batched_tokens - len(decoding)
        for progress in running:
            if progress.prompt_left:
                chunk = min(progress.prompt_left, budget - prompt_tokens)
                progress.prompt_left -= chunk
                prompt_tokens += chunk
                if not progress.prompt_left:
                    progress.output_left -= 1
        for progress in decoding:
            progress.output_left -= 1
        now += costs.step_seconds + costs.step_seconds_per_sequence * len(decoding)
        now += prompt_tokens / costs.prefill_tokens_per_second
        running = [progress for progress in running if progress.output_left > 0]
    return now


def modeled_seconds(costs: BatchCosts, sequences: list[SimulatedSequence]) -> float:
    batch = Batch(costs)
    for sequence in sequences:
        batch.submit(0.0, sequence)
    finished = batch.advance(1e9)
    assert len(finished) == len(sequences)
    return finished[-1][1]


def lognormal(count: int, seed: int) -> list[SimulatedSequence]:
    rng = random.Random(seed)
    return [
        SimulatedSequence(rng.randint(1000, 6000), max(1, round(rng.lognormvariate(5.0, 0.7)))) for _ in range(count)
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("changes", [{}, {"kv_cache_tokens": 50_000}, {"max_num_seqs": 4}])
def test_the_batch_model_agrees_with_a_simulation_of_every_step(seed: int, changes: dict[str, int]) -> None:
    costs, sequences = replace(COSTS, **changes), lognormal(200, seed)
    assert modeled_seconds(costs, sequences) == pytest.approx(simulated_seconds(costs, sequences), rel=0.03)


def test_decoding_takes_one_step_per_token() -> None:
    costs = replace(COSTS, max_num_seqs=16)
    sequences = [SimulatedSequence(1, 501)] * 48  # three full batches
    step_seconds = costs.step_seconds + 16 * costs.step_seconds_per_sequence
    assert modeled_seconds(costs, sequences) == pytest.approx(3 * 500 * step_seconds, rel=0.01)


def test_prefill_time_is_proportional_to_prompt_tokens() -> None:
    sequences = [SimulatedSequence(4096, 1)] * 50
    steps = 50 * 4096 / COSTS.max_num_batched_tokens
    expected = steps * COSTS.step_seconds + 50 * 4096 / COSTS.prefill_tokens_per_second
    assert modeled_seconds(COSTS, sequences) == pytest.approx(expected, rel=1e-6)


def test_the_kv_cache_limits_running_sequences() -> None:
    costs = replace(COSTS, kv_cache_tokens=10_000)
    batch = Batch(costs)
    for _ in range(20):
        batch.submit(0.0, SimulatedSequence(2500, 500))
    assert (batch.running, batch.waiting) == (3, 17)
    batch.advance(1e9)
    assert batch.totals.peak_running == 3
    assert batch.totals.peak_kv_tokens == 9000
    with pytest.raises(ValueError, match="KV cache of 10000 tokens"):
        batch.submit(1e9, SimulatedSequence(10_000, 1))


def test_smaller_requests_do_not_overtake_a_large_one() -> None:
    batch = Batch(replace(COSTS, kv_cache_tokens=10_000))
    first = batch.submit(0.0, SimulatedSequence(5000, 100))
    large = batch.submit(0.0, SimulatedSequence(9000, 100))
    small = batch.submit(0.0, SimulatedSequence(10, 1))
    assert (batch.running, batch.waiting) == (1, 2)
    assert [ticket for ticket, _ in batch.advance(1e9)] in ([first, large, small], [first, small, large])


@pytest.mark.parametrize("cancelled_at", [0.0, 0.05, 0.5])  # waiting or prefilling, prefilling, decoding
def test_cancelling_frees_the_slot(cancelled_at: float) -> None:
    batch = Batch(replace(COSTS, max_num_seqs=1))
    cancelled_running = batch.submit(0.0, SimulatedSequence(3000, 10_000))
    remaining = batch.submit(0.0, SimulatedSequence(100, 10))
    cancelled_waiting = batch.submit(0.0, SimulatedSequence(100, 10))
    batch.cancel(cancelled_at, cancelled_waiting)
    batch.cancel(cancelled_at, cancelled_running)
    assert (batch.running, batch.waiting) == (1, 0)
    ((ticket, finished_at),) = batch.advance(1e9)
    assert ticket == remaining
    assert finished_at < cancelled_at + 0.2
    batch.cancel(1e9, remaining)  # it has finished: no effect
    assert batch.next_event() is None


def test_averages_exclude_idle_time_before_the_first_and_after_the_last_request() -> None:
    batch = Batch(COSTS)
    batch.submit(100.0, SimulatedSequence(1, 1001))
    ((_, finished_at),) = batch.advance(1000.0)
    busy_seconds = finished_at - 100.0
    assert batch.totals.seconds == pytest.approx(busy_seconds)
    assert batch.totals.running_seconds == pytest.approx(busy_seconds)
    batch.submit(2000.0, SimulatedSequence(1, 1001))
    batch.advance(3000.0)
    assert batch.totals.seconds == pytest.approx(1900.0 + busy_seconds)
    assert batch.totals.busy_seconds == pytest.approx(2 * busy_seconds)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "cancel", "advance"]),
        st.floats(0, 5),
        st.integers(1, 4000),
        st.integers(1, 400),
    ),
    min_size=1,
    max_size=60,
)


@given(ACTIONS)
def test_any_load_keeps_the_limits_and_loses_no_request(
    actions: list[tuple[str, float, int, int]],
) -> None:
    costs = replace(COSTS, max_num_seqs=5, kv_cache_tokens=9000)
    batch, now = Batch(costs), 0.0
    submitted, cancelled, finished = set[int](), set[int](), list[tuple[int, float]]()
    for action, pause_seconds, prompt_tokens, output_tokens in actions:
        now += pause_seconds
        if action == "submit":
            submitted.add(batch.submit(now, SimulatedSequence(prompt_tokens, output_tokens)))
        elif action == "advance":
            finished += batch.advance(now)
        elif submitted:
            ticket = sorted(submitted)[prompt_tokens % len(submitted)]
            finished += batch.advance(now)
            if ticket not in {done for done, _ in finished}:
                cancelled.add(ticket)
            batch.cancel(now, ticket)
        assert batch.running <= costs.max_num_seqs
        assert batch.running > 0 or batch.waiting == 0
    finished += batch.advance(now + 1e9)
    assert sorted(ticket for ticket, _ in finished) == sorted(submitted - cancelled)
    assert [at for _, at in finished] == sorted(at for _, at in finished)
    assert (batch.running, batch.waiting) == (0, 0)
    assert batch.totals.peak_running <= costs.max_num_seqs
    assert batch.totals.peak_kv_tokens <= costs.kv_cache_tokens
    assert batch.next_event() is None
