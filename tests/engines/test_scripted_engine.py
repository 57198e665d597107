"""Scripted responses, delays, failures and deaths, chosen by a substring of the prompt."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from corpus_reranker.engines.registry import create_engine
from corpus_reranker.engines.scripted import Answer, ScriptedEngine, ScriptedSettings, passages
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.types import Prompt, SamplingParams

PARAMS = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=100, seed=0)
NEVER_SECONDS = 3600.0


def window(query: str, *texts: str) -> Prompt:
    lines = "\n".join(f"[{number}] {text}" for number, text in enumerate(texts or ("one", "two", "three"), 1))
    return Prompt(f"Rank these.\n{lines}\nSearch Query: {query}. Go.", (0,) * 12)


def scripted(**settings: Any) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(kind="scripted", **settings))


def count_passages(word: str) -> Answer:
    """A response function that the settings below name."""
    return lambda text, params: (f"{word} {len(passages(text))}", "length")


async def test_responses_keep_or_reverse_the_order() -> None:
    kept = await scripted().generate(window("q"), PARAMS)
    assert kept.text.endswith("<answer>[1] > [2] > [3]</answer>")
    assert (kept.finish_reason, kept.prompt_tokens) == ("stop", 12)
    reverse = scripted(answers="corpus_reranker.engines.scripted:reverse_order")
    assert (await reverse.generate(window("q"), PARAMS)).text.endswith("<answer>[3] > [2] > [1]</answer>")


async def test_a_function_may_return_malformed_and_truncated_responses() -> None:
    engine = scripted(answers=f"{__name__}:count_passages", arguments={"word": "no!"})
    completion = await engine.generate(window("q", "a", "b"), PARAMS)
    assert (completion.text, completion.finish_reason) == ("no! 2", "length")


@pytest.mark.parametrize(
    "answers", ["nowhere:x", "corpus_reranker.engines.scripted:nothing", f"{__name__}:count_passages", "x"]
)
def test_an_unknown_response_function_is_reported(answers: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.answers: cannot load"):
        scripted(answers=answers)


def test_a_passage_begins_with_an_identifier_at_the_start_of_a_line() -> None:
    prompt = window("is [2] one?", "first [9] of\nthree lines\nnot [3] this", "", "third")
    assert passages(prompt.text) == ["first [9] of\nthree lines\nnot [3] this", "", "third"]


async def test_slow_prompts_delay_no_other_request() -> None:
    engine = scripted(slow={"turtle": NEVER_SECONDS})
    slow = asyncio.create_task(engine.generate(window("turtle"), PARAMS))
    await asyncio.gather(*(engine.generate(window(f"hare {number}"), PARAMS) for number in range(5)))
    assert not slow.done()
    assert engine.info()["peak_in_flight"] == 6
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_prompts_fail_as_often_as_scripted() -> None:
    engine = scripted(fail={"flaky": 2, "poison": 1000})
    for _ in range(2):
        with pytest.raises(RequestError, match="flaky"):
            await engine.generate(window("flaky"), PARAMS)
    assert (await engine.generate(window("flaky"), PARAMS)).finish_reason == "stop"
    for _ in range(5):
        with pytest.raises(RequestError, match="poison"):
            await engine.generate(window("poison"), PARAMS)
    assert (await engine.generate(window("sound"), PARAMS)).finish_reason == "stop"


async def test_the_engine_dies_at_the_nth_request_with_all_requests_in_flight() -> None:
    engine = scripted(die={"": 3}, slow={"waits": 0.01})
    calls = [engine.generate(window(query), PARAMS) for query in ("a", "b", "waits", "c", "d")]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, EngineDeadError) for outcome in outcomes] == [False, False, True, True, True]
    with pytest.raises(EngineDeadError):
        await engine.generate(window("e"), PARAMS)


async def test_a_scripted_start_error_and_a_stop() -> None:
    with pytest.raises(EngineStartError, match="out of memory"):
        await scripted(start_error="out of memory").start()
    engine = scripted()
    await engine.start()
    await engine.stop()
    await engine.stop()
    with pytest.raises(EngineDeadError):
        await engine.generate(window("q"), PARAMS)


def test_settings_create_the_engine_and_refuse_unknown_keys() -> None:
    settings = ScriptedSettings(kind="scripted")
    created: Any = create_engine(settings)
    assert isinstance(created.engine, ScriptedEngine)
    assert settings.simulated
    assert settings.tokenizer_source == "words"
    with pytest.raises(ValidationError, match="did you mean 'delay_seconds'"):
        scripted(delay_second=1)
