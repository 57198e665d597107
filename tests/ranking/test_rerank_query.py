"""rerank_query: every candidate exactly once, whatever the engine does."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.base import RankWindow
from corpus_reranker.ranking.strategies.setwise_heapsort import SetwiseHeapsort
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.window_runner import RenderWindow
from corpus_reranker.types import (
    ANSWERED,
    Candidate,
    Completion,
    Encode,
    Prompt,
    QueryStatus,
    RerankRequest,
    RerankResult,
    SamplingParams,
    WindowStatus,
)
from helpers.scripts import (
    NO_BACKOFF,
    SAMPLING,
    answer,
    completion,
    oracle,
    prompt_builder,
    request_of,
    rerank,
    shown_indices,
)

SMALL = SlidingWindow(window=4, stride=2, depth=100)


class Script:
    """An engine that plays its steps in order: a completion, an exception to raise, or "hang"."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.requested: list[tuple[Prompt, SamplingParams]] = []

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requested.append((prompt, params))
        step = self.steps.pop(0) if self.steps else completion(answer(range(len(shown_indices(prompt)))))
        if step == "hang":
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Completion)
        return step


@dataclass(frozen=True, slots=True)
class ConcurrentWindows:
    """Ranks windows of four concurrently, one task each."""

    max_window: int = 4

    def max_windows(self, num_candidates: int) -> int:
        return -(-num_candidates // 4)

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        starts = range(0, num_candidates, 4)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(rank_window(range(s, min(s + 4, num_candidates)), s)) for s in starts]
        return [index for task in tasks for index in task.result()]


@dataclass(frozen=True, slots=True)
class OneWindow:
    """A strategy that ranks one given window and returns a given order."""

    window: Sequence[int]
    order: Sequence[int]
    max_window: int = 9

    def max_windows(self, num_candidates: int) -> int:
        return 1

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        await rank_window(self.window, 0)
        return list(self.order)


STEPS = st.one_of(
    st.builds(completion, st.text(max_size=30), st.sampled_from(["stop", "length"])),
    st.builds(lambda ids: completion(answer(ids)), st.lists(st.integers(-2, 12), max_size=8)),
    st.builds(RequestError, st.text(max_size=5)),
    st.builds(TimeoutError),
    st.builds(ZeroDivisionError),
    st.just("hang"),
)


@given(steps=st.lists(STEPS, max_size=30), num_candidates=st.integers(1, 15), concurrent=st.booleans())
async def test_every_candidate_appears_exactly_once(steps: list[object], num_candidates: int, concurrent: bool) -> None:
    script = Script(*steps)
    policy = RetryPolicy(backoff_seconds=0.0, window_timeout_seconds=0.001)
    result = await rerank(num_candidates, script, ConcurrentWindows() if concurrent else SMALL, policy)
    assert sorted(result.order) == list(range(num_candidates))
    assert all(window.status in get_args(WindowStatus) for window in result.windows)
    assert sum(window.attempts for window in result.windows) == len(script.requested)
    answered = [window.status in ANSWERED for window in result.windows]
    expected: QueryStatus = "complete" if all(answered) else "degraded" if any(answered) else "failed"
    assert result.status == expected
    assert (result.error is None) == (expected == "complete")


async def test_first_token_logprobs_rank_a_window_and_missing_ones_are_retried() -> None:
    requested: list[Prompt] = []

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        requested.append(prompt)
        logprobs = tuple(-float(index % 4) for index in prompt.token_ids) if len(requested) > 1 else ()
        return Completion("[2] > [1]", "length", 100, 1, logprobs)

    result = await rerank(6, generate, SlidingWindow(6, 6), answer_format="first_token")
    assert result.order == (0, 4, 1, 5, 2, 3)
    assert [(window.status, window.attempts) for window in result.windows] == [("complete", 2)]


FORCING = RetryPolicy(backoff_seconds=0.0, force_answer=True)


async def forced_rerank(script: Script, answer_format: str, policy: RetryPolicy = FORCING) -> RerankResult:
    def encode(text: str) -> list[int]:
        return [0] * (len(text) // 4)

    return await rerank(4, script, SlidingWindow(4, 4), policy, answer_format=answer_format, encode=encode)


async def test_forced_answer_follows_the_reasoning() -> None:
    draft = "<think>[4] is about it."
    script = Script(completion("no idea"), completion(draft, "length"), completion("[4] > [2] > [2] > [1]"))
    result = await forced_rerank(script, "reasoning")
    assert (result.status, result.order) == ("complete", (3, 1, 0, 2))
    (window,) = result.windows
    assert (window.status, window.attempts, window.finish_reason) == ("repaired", 3, "forced")
    assert (window.prompt_tokens, window.output_tokens) == (300, 30)
    prompt, params = script.requested[-1]
    assert prompt.text == script.requested[0][0].text + draft + "\n</think>\n<answer>"
    assert re.fullmatch(str(params.regex), "[4] > [2] > [2] > [1]")
    for wrong in ("[4] > [2] > [1]", "[5] > [2] > [3] > [1]", "4 > 2 > 3 > 1", "[1] > [2] > [3] > [4] > [1]"):
        assert not re.fullmatch(str(params.regex), wrong)
    assert params.temperature == SAMPLING.temperature
    assert [params.regex for _, params in script.requested[:2]] == [None, None]


async def test_forced_answer_shortens_reasoning_to_fit_the_context() -> None:
    script = Script(*[completion("<think>" + "hm " * 5000, "length")] * 2, completion("[4] > [3] > [2] > [1]"))
    result = await forced_rerank(script, "reasoning")
    assert result.order == (3, 2, 1, 0)
    prompt, params = script.requested[-1]
    assert len(prompt.token_ids) + params.max_tokens <= len(script.requested[0][0].token_ids) + SAMPLING.max_tokens
    assert "<think>hm hm" in prompt.text
    assert prompt.text.endswith("\n</think>\n<answer>")


async def test_forced_plain_answer_reuses_the_prompt() -> None:
    script = Script(*[completion("no idea")] * 2, completion("[4] > [3] > [2] > [1]"))
    result = await forced_rerank(script, "plain")
    assert (result.order, result.windows[0].status) == ((3, 2, 1, 0), "complete")
    assert script.requested[-1][0] == script.requested[0][0]


async def test_failed_or_answered_windows_are_not_forced() -> None:
    for steps in ([RequestError("no")] * 3, [completion(answer([1, 0, 3, 2]))]):
        script = Script(*steps)
        await forced_rerank(script, "reasoning")
        assert all(params.regex is None for _, params in script.requested)
    kept = await forced_rerank(Script(*[completion("no idea")] * 2), "plain", NO_BACKOFF)
    assert (kept.status, kept.order, kept.windows[0].attempts) == ("failed", (0, 1, 2, 3), 2)


async def test_retry_changes_seed_and_temperature_and_sums_tokens() -> None:
    script = Script(completion("no answer here"), completion("<think>on and on", "length"), completion(answer([1, 0])))
    result = await rerank(2, script, SMALL, RetryPolicy(max_attempts=3, retry_temperature=0.7))
    assert result.order == (1, 0)
    (window,) = result.windows
    assert (window.status, window.attempts, window.prompt_tokens, window.output_tokens) == ("complete", 3, 300, 30)
    assert [params.temperature for _, params in script.requested] == [0.0, 0.7, 0.7]
    assert len({params.seed for _, params in script.requested}) == 3


async def test_backoff_doubles_and_differs_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("corpus_reranker.ranking.window_runner.asyncio.sleep", sleep)
    script = Script(*[RequestError("busy")] * 8)
    await rerank(6, script, SMALL, RetryPolicy(max_attempts=4, backoff_seconds=10.0))
    assert all(0.5 <= seconds / (10.0 * 2**retry) < 1.5 for retry, seconds in enumerate(waited[:3]))
    assert all(0.5 <= seconds / (10.0 * 2**retry) < 1.5 for retry, seconds in enumerate(waited[3:]))
    assert len(set(waited)) == 6


async def test_backoff_ends_at_the_query_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("corpus_reranker.ranking.window_runner.asyncio.sleep", sleep)
    policy = RetryPolicy(backoff_seconds=1000.0, query_deadline_seconds=5.0)
    await rerank(4, Script(*[RequestError("busy")] * 2), SMALL, policy)
    assert len(waited) == 1
    assert waited[0] <= 5.0


async def test_retry_never_lowers_the_temperature() -> None:
    script = Script(completion("no answer here"))
    hot = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=10, seed=0)
    await rerank(2, script, SMALL, sampling=hot)
    assert [params.temperature for _, params in script.requested] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (completion("nothing"), "no_answer"),
        (completion("<think>[2] > [1]", "length"), "truncated"),
        (RequestError("too long"), "error"),
        ("hang", "timeout"),
    ],
)
async def test_window_without_an_answer_keeps_its_order_and_the_query_continues(step: object, status: str) -> None:
    script = Script(step, step)
    result = await rerank(6, script, SMALL, RetryPolicy(backoff_seconds=0.0, window_timeout_seconds=0.01))
    assert [window.status for window in result.windows] == [status, "complete"]
    assert result.windows[0].attempts == 2
    assert (result.status, result.order) == ("degraded", tuple(range(6)))
    assert result.error is not None
    assert result.error.startswith("window [2, 6): ")


async def test_query_without_any_answer_keeps_its_order() -> None:
    script = Script(*[RequestError("no") for _ in range(100)])
    result = await rerank(5, script, SlidingWindow(window=4, stride=4, depth=4))
    assert (result.status, result.order) == ("failed", (0, 1, 2, 3, 4))
    failing = await rerank(5, Script(*[RequestError("no")] * 9), SlidingWindow(window=4, stride=4, depth=5))
    assert failing.status == "failed", "a window of one passage counts as no answer"
    assert failing.windows[0].error == "RequestError: no"


async def test_no_window_is_requested_after_the_query_deadline() -> None:
    script = Script("hang")
    result = await rerank(20, script, SMALL, RetryPolicy(query_deadline_seconds=0.5))
    assert len(script.requested) == 1
    assert {window.status for window in result.windows} == {"timeout"}
    assert [window.attempts for window in result.windows] == [1] + [0] * 8
    assert (result.status, result.order) == ("failed", tuple(range(20)))


async def test_window_timeout_cancels_the_engine_request() -> None:
    cancelled = asyncio.Event()

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    policy = RetryPolicy(max_attempts=1, window_timeout_seconds=0.01)
    result = await rerank(3, generate, SMALL, policy)
    assert cancelled.is_set()
    assert result.windows[0].latency_seconds >= 0.01


@pytest.mark.parametrize("strategy", [SMALL, ConcurrentWindows()])
async def test_dead_engine_is_raised(strategy: SlidingWindow | ConcurrentWindows) -> None:
    with pytest.raises(EngineDeadError, match="gone"):
        await rerank(12, Script(RequestError("first"), EngineDeadError("gone")), strategy)


@pytest.mark.parametrize("strategy", [SMALL, ConcurrentWindows()])
async def test_single_candidate_needs_no_request(strategy: SlidingWindow | ConcurrentWindows) -> None:
    script = Script()
    result = await rerank(1, script, strategy)
    assert (result.status, result.order, result.windows, script.requested) == ("complete", (0,), (), [])


@pytest.mark.parametrize(
    ("window", "order"),
    [
        ([0, 1], [0, 1]),
        ([0, 1], [0, 1, 1]),
        ([0, 0], [0, 1, 2]),
        ([0, 3], [0, 1, 2]),
        ([-1, 0], [0, 1, 2]),
        ([], [0, 1, 2]),
    ],
)
async def test_strategy_that_breaks_its_contract_raises(window: list[int], order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"not a permutation|a window must show"):
        await rerank(3, Script(), OneWindow(window, order))


async def test_same_answers_give_the_same_seeds_and_order() -> None:
    def relevance(index: int) -> float:
        return float(index * 7919 % 101)

    seeds = []
    for _ in range(2):
        script = Script()
        await rerank(40, script, ConcurrentWindows())
        seeds.append([params.seed for _, params in script.requested])
    assert seeds[0] == seeds[1]
    orders = [(await rerank(100, oracle(relevance), SlidingWindow())).order for _ in range(2)]
    assert orders[0] == orders[1]
    assert list(orders[0][:10]) == sorted(range(100), key=relevance, reverse=True)[:10]


async def test_window_outcome_has_prompt_response_and_reasoning() -> None:
    script = Script(completion("prose"), completion("<think>hm</think><answer>[2] > [1]</answer>"))
    (window,) = (await rerank(2, script, SMALL)).windows
    assert (window.start, window.end, window.finish_reason) == (0, 2, "stop")
    assert window.reasoning == "<think>hm</think><answer>"
    assert window.response == "<think>hm</think><answer>[2] > [1]</answer>"
    assert window.prompt == "0 1"
    (failed,) = (await rerank(2, Script(completion("a"), completion("b")), SMALL)).windows
    assert (failed.prompt, failed.response, failed.reasoning) == ("0 1", "b", "b")


@pytest.mark.parametrize(
    "wrong",
    [{"max_attempts": 0}, {"window_timeout_seconds": 0}, {"query_deadline_seconds": -1}, {"backoff_seconds": -1.0}],
)
def test_invalid_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


async def test_defaults_rerank_with_a_function_that_returns_text() -> None:
    requests: list[tuple[Prompt, SamplingParams]] = []

    async def llm(prompt: Prompt, params: SamplingParams) -> str:
        requests.append((prompt, params))
        return answer([2, 0, 1])

    result = await rerank_query(request_of(3), llm)
    assert (result.status, result.order) == ("complete", (2, 0, 1))
    ((prompt, params),) = requests
    assert "\n[1] passage 0\n[2] passage 1\n[3] passage 2\n" in prompt.text
    assert "search query: a query." in prompt.text
    assert (params.stop, params.max_tokens, params.temperature) == (("</answer>",), 3172, 0.0)
    (window,) = result.windows
    assert (window.finish_reason, window.prompt_tokens, window.output_tokens) == ("stop", len(prompt.token_ids), 0)


@pytest.mark.parametrize(
    ("answer_format", "encode", "message"),
    [
        ("reasoning", None, "force_answer needs encode"),
        ("first_token", lambda text: [0], "force_answer needs a parser that can force an answer, not FirstTokenParser"),
    ],
)
async def test_forcing_without_what_it_needs_is_refused(
    answer_format: str, encode: Encode | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await rerank(2, Script(), SMALL, FORCING, answer_format=answer_format, encode=encode)


@pytest.mark.parametrize(
    ("steps", "named", "flags"),
    [
        (["[3] > [1] > [2]"], 3, ()),
        (["[1] > [2] > [3]"], 3, ("input_order",)),
        (["[2]"], 1, ("one_name",)),
        (["[1]"], 1, ("input_order", "one_name")),
        (["[2] > [0] > [1]"], 3, ("reasonrank_differs", "zero_based")),
        (["none"], 0, ()),
        ([RequestError("lost")], None, ()),
        (["none", RequestError("lost")], None, ()),
        (["1. [2]\n2. [1]\n3. [3]", "unused"], 3, ("reasonrank_differs",)),
    ],
)
async def test_windows_record_the_number_of_named_passages_and_flags(
    steps: list[str | Exception], named: int | None, flags: tuple[str, ...]
) -> None:
    script = [
        step if isinstance(step, Exception) else completion(f"<think>a</think><answer>{step}</answer>")
        for step in steps
    ]
    policy = replace(NO_BACKOFF, max_attempts=len(steps))
    (window,) = (await rerank(3, Script(*script), SMALL, policy)).windows
    assert (window.named, tuple(sorted(window.flags))) == (named, flags)


@given(st.lists(st.sampled_from(["text", "", " \n"]), min_size=1, max_size=9), st.booleans())
async def test_candidates_without_text_are_not_shown_and_come_last(texts: list[str], fails: bool) -> None:
    shown: list[str] = []

    def build(request: RerankRequest) -> RenderWindow:
        shown.extend(candidate.text for candidate in request.candidates)
        return prompt_builder(request)

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        return completion("" if fails else answer(range(len(shown_indices(prompt)))[::-1]))

    candidates = tuple(Candidate(f"d{index}", text, 0.0) for index, text in enumerate(texts))
    request = RerankRequest("q", "query", candidates)
    result = await rerank_query(request, generate, strategy=SlidingWindow(9, 9), prompt_builder=build)
    with_text = [index for index, text in enumerate(texts) if text == "text"]
    blank = [index for index, text in enumerate(texts) if text != "text"]
    assert shown == ["text"] * len(with_text)
    failed = not with_text or (fails and len(with_text) > 1)
    assert result.status == ("failed" if failed else "complete")
    assert list(result.order) == (list(range(len(texts))) if failed else [*with_text[::-1], *blank])


async def test_a_label_is_a_complete_answer_and_one_name_in_a_ranking_is_not() -> None:
    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        return completion("[2]")

    labels = await rerank(7, generate, SetwiseHeapsort(num_child=2, k=2), answer_format="best_label")
    assert labels.status == "complete"
    assert {(window.status, window.named, window.flags) for window in labels.windows} == {("complete", 1, ())}
    rankings = await rerank(4, generate, SMALL, answer_format="plain")
    assert [(window.status, window.flags) for window in rankings.windows] == [("repaired", ("one_name",))]
