"""Answers put together out of several completions: drafts gone on with, long thoughts closed, tokens bounded."""

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


def expected(script: Callable[[str], str]) -> "Engine":
    return Engine(script)


class Engine:
    """A token is a character. `script` gives all that the model goes on to say after what it has said already."""

    def __init__(self, script: Callable[[str], str]) -> None:
        self.script = script
        self.requested: list[tuple[Prompt, SamplingParams]] = []

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requested.append((prompt, params))
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


async def test_an_answer_that_ends_is_asked_once() -> None:
    engine = expected(lambda prefix: "<think>a</think><answer>[2] > [1]</answer> and more")
    completion = await continue_reasoning(engine, encode)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason) == ("<think>a</think><answer>[2] > [1]</answer>", "stop")
    assert engine.requested == [(PROMPT, PARAMS)]


async def test_a_draft_inside_thoughts_is_not_the_answer() -> None:
    whole = "<think>so <answer>[1] > [2]</answer> no</think><answer>[2] > [1]</answer>"
    engine = expected(lambda prefix: whole.removeprefix(prefix))
    params = replace(PARAMS, max_tokens=200)
    completion = await continue_reasoning(engine, encode)(PROMPT, params)
    assert completion.text == whole
    assert parse(completion.text, 2, "reasoning").order == (1, 0)
    assert len(engine.requested) == 2
    assert engine.requested[1][0].token_ids == tuple(encode(PROMPT.text + "<think>so <answer>[1] > [2]</answer>"))
    assert completion.output_tokens == len(whole)


async def test_an_engine_that_closes_the_reasoning_itself_is_asked_once() -> None:
    text = "<think>hm hm</think><answer>[2] > [1]</answer>"
    requests: list[SamplingParams] = []

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        requests.append(params)
        return Completion(text, "capped", 3, 20)

    params = replace(PARAMS, max_reasoning_tokens=5)
    completion = await continue_reasoning(generate, encode)(PROMPT, params)
    assert (completion.text, completion.finish_reason, completion.output_tokens) == (text, "capped", 20)
    assert requests == [params]


async def test_thoughts_without_end_are_closed_and_the_model_answers() -> None:
    engine = expected(lambda prefix: "[2] > [1]</answer>" if "</think>" in prefix else "<think>" + "hm " * 100)
    completion = await continue_reasoning(engine, encode, max_reasoning_tokens=20)(PROMPT, PARAMS)
    assert completion.text == "<think>hm hm hm hm h" + CLOSE_REASONING + "[2] > [1]</answer>"
    assert completion.finish_reason == "capped"
    permutation = parse(completion.text, 2, "reasoning", completion.finish_reason)
    assert (permutation.order, permutation.status) == ((1, 0), "complete")
    assert [params.max_tokens for _, params in engine.requested] == [20, 40]


async def test_without_a_cap_they_stay_truncated() -> None:
    engine = expected(lambda prefix: "<think>" + "hm " * 100)
    completion = await continue_reasoning(engine, encode)(PROMPT, PARAMS)
    assert (completion.finish_reason, completion.output_tokens, len(engine.requested)) == ("length", 60, 1)


async def test_a_full_context_ends_it() -> None:
    async def full(prompt: Prompt, params: SamplingParams) -> Completion:
        return Completion("<think>hm", "length", 3, 9)

    completion = await continue_reasoning(full, encode, max_reasoning_tokens=20)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason) == ("<think>hm", "length")


async def test_an_answer_cut_by_the_cap_goes_on_as_it_was() -> None:
    whole = "<think>a</think><answer>[2] > [1] > [3]</answer>"
    engine = expected(lambda prefix: whole.removeprefix(prefix))
    completion = await continue_reasoning(engine, encode, max_reasoning_tokens=30)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason) == (whole, "stop")


async def test_a_model_that_ends_behind_a_draft_is_asked_once_more() -> None:
    draft = "<think>so <answer>[1] > [2]</answer>"
    engine = expected(lambda prefix: draft.removeprefix(prefix))
    completion = await continue_reasoning(engine, encode)(PROMPT, PARAMS)
    assert (completion.text, completion.finish_reason, len(engine.requested)) == (draft, "stop", 2)


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "[1] > [2]", "hm ", "</Think>"]), max_size=30
)


@given(PIECES, st.none() | st.integers(1, 60), st.integers(1, 80))
async def test_it_ends_within_the_tokens_whatever_the_model_says(
    pieces: list[str], cap: int | None, max_tokens: int
) -> None:
    whole = "".join(pieces)
    engine = expected(lambda prefix: whole[len(prefix) :])
    completion = await continue_reasoning(engine, encode, cap)(PROMPT, replace(PARAMS, max_tokens=max_tokens))
    assert completion.output_tokens <= max_tokens
    assert all(params.max_tokens >= 1 for _, params in engine.requested)
