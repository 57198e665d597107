"""Answers joined from several completions: drafts are continued, long reasoning is closed, tokens are bounded."""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.answers.continuation import continue_reasoning
from corpus_reranker.answers.tags import CLOSE_REASONING
from corpus_reranker.types import Completion, Prompt, SamplingParams
from helpers.scripts import parse

PARAMS = SamplingParams(0.0, 1.0, 0, 0.0, max_tokens=60, seed=1, stop=("</answer>",))
PROMPT = Prompt("Rank.", (1, 2, 3))


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


class Engine:
    """One token is one character. `script` returns the whole continuation of the text so far."""

    def __init__(self, script: Callable[[str], str]) -> None:
        self.script = script
        self.requests: list[tuple[Prompt, SamplingParams]] = []

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requests.append((prompt, params))
        text = self.script(prompt.text.removeprefix(PROMPT.text))
        ends = [text.find(stop) + len(stop) for stop in params.stop if stop in text]
        text = text[: min(ends, default=len(text))]
        cut = len(text) > params.max_tokens
        return Completion(
            text[: params.max_tokens],
            "length" if cut else "stop",
            len(prompt.token_ids),
            min(len(text), params.max_tokens),
        )


async def test_finished_answer_takes_one_request() -> None:
    engine = Engine(lambda prefix: "<think>a</think><answer>[2] > [1]</answer> and more")
    completion = await continue_reasoning(engine, encode)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason) == ("<think>a</think><answer>[2] > [1]</answer>", "stop")
    assert engine.requests == [(PROMPT, PARAMS)]


async def test_draft_inside_reasoning_is_continued() -> None:
    whole = "<think>so <answer>[1] > [2]</answer> no</think><answer>[2] > [1]</answer>"
    engine = Engine(lambda prefix: whole.removeprefix(prefix))
    params = replace(PARAMS, max_tokens=200)
    completion = await continue_reasoning(engine, encode)(PROMPT, params)
    assert completion.text == whole
    assert parse(completion.text, 2, "reasoning").order == (1, 0)
    assert len(engine.requests) == 2
    assert engine.requests[1][0].token_ids == tuple(encode(PROMPT.text + "<think>so <answer>[1] > [2]</answer>"))
    assert completion.output_tokens == len(whole)


async def test_engine_that_closes_reasoning_takes_one_request() -> None:
    text = "<think>hm hm</think><answer>[2] > [1]</answer>"
    requests: list[SamplingParams] = []

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        requests.append(params)
        return Completion(text, "capped", 3, 20)

    params = replace(PARAMS, max_reasoning_tokens=5)
    completion = await continue_reasoning(generate, encode)(PROMPT, params)
    assert (completion.text, completion.finish_reason, completion.output_tokens) == (text, "capped", 20)
    assert requests == [params]


async def test_endless_reasoning_is_closed_and_the_model_answers() -> None:
    engine = Engine(lambda prefix: "[2] > [1]</answer>" if "</think>" in prefix else "<think>" + "hm " * 100)
    completion = await continue_reasoning(engine, encode, max_reasoning_tokens=20)(PROMPT, PARAMS)
    assert completion.text == "<think>hm hm hm hm h" + CLOSE_REASONING + "[2] > [1]</answer>"
    assert completion.finish_reason == "capped"
    permutation = parse(completion.text, 2, "reasoning", completion.finish_reason)
    assert (permutation.order, permutation.status) == ((1, 0), "complete")
    assert [params.max_tokens for _, params in engine.requests] == [20, 40]


async def test_endless_reasoning_without_a_limit_is_truncated() -> None:
    engine = Engine(lambda prefix: "<think>" + "hm " * 100)
    completion = await continue_reasoning(engine, encode)(PROMPT, PARAMS)
    assert (completion.finish_reason, completion.output_tokens, len(engine.requests)) == ("length", 60, 1)


async def test_full_context_ends_the_continuation() -> None:
    async def full(prompt: Prompt, params: SamplingParams) -> Completion:
        return Completion("<think>hm", "length", 3, 9)

    completion = await continue_reasoning(full, encode, max_reasoning_tokens=20)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason) == ("<think>hm", "length")


async def test_answer_cut_at_the_reasoning_limit_is_continued() -> None:
    whole = "<think>a</think><answer>[2] > [1] > [3]</answer>"
    engine = Engine(lambda prefix: whole.removeprefix(prefix))
    completion = await continue_reasoning(engine, encode, max_reasoning_tokens=30)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason) == (whole, "stop")


async def test_model_that_stops_after_a_draft_gets_one_more_request() -> None:
    draft = "<think>so <answer>[1] > [2]</answer>"
    engine = Engine(lambda prefix: draft.removeprefix(prefix))
    completion = await continue_reasoning(engine, encode)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason, len(engine.requests)) == (draft, "stop", 2)


async def test_repeated_drafts_are_bounded_on_a_server_that_counts_no_tokens() -> None:
    requests = 0

    async def drafts(prompt: Prompt, params: SamplingParams) -> Completion:
        nonlocal requests
        requests += 1
        return Completion("<think>so <answer>[1] > [2]</answer>", "stop", 0, 0)

    completion = await continue_reasoning(drafts, encode)(PROMPT, PARAMS)
    assert (completion.finish_reason, requests) == ("stop", 32)


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "[1] > [2]", "hm ", "</Think>"]), max_size=30
)


@given(PIECES, st.none() | st.integers(1, 60), st.integers(1, 80))
async def test_continuation_stays_within_max_tokens_for_any_text(
    pieces: list[str], cap: int | None, max_tokens: int
) -> None:
    whole = "".join(pieces)
    engine = Engine(lambda prefix: whole[len(prefix) :])
    completion = await continue_reasoning(engine, encode, cap)(PROMPT, replace(PARAMS, max_tokens=max_tokens))
    assert completion.output_tokens <= max_tokens
    assert all(params.max_tokens >= 1 for _, params in engine.requests)
