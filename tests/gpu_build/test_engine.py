"""One engine of reasonrank-7b, from its start to its end, and a pre-ranker beside it on the same GPU."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.engines.registry import create_engine, create_pre_ranker
from corpus_reranker.errors import RequestError
from gpu_build.engines import GREEDY, prompt, ready_made, stubbed
from gpu_build.model_folders import make_adapter_folder
from gpu_build.replies import ADAPTER_REPLY, DEFAULT_REPLY, FOREVER, REPLY

MAX_MODEL_LEN = 32768
WATCHDOG_SECONDS = 120.0


@pytest.fixture(scope="module")
def engine(models: Path) -> Iterator[Any]:
    """KV cache for one and a half longest requests, so that many at once are preempted; the smallest token budget."""
    settings = stubbed(ready_made("reasonrank-7b").engine, models, kv_cache_gib=2.6, max_num_batched_tokens=2048)
    engine = create_engine(settings)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.stop())
    asyncio.run(engine.stop())


def test_info_names_device_and_capacity(engine: Any, models: Path) -> None:
    info = engine.info()
    assert info["device_name"] == "NVIDIA H100 80GB HBM3"
    assert info["dtype"] == "bfloat16"
    assert info["max_model_len"] == MAX_MODEL_LEN
    bytes_per_token = 28 * 2 * 4 * 128 * 2  # layers, keys and values, KV heads, head size, bfloat16
    assert info["kv_cache_tokens"] == pytest.approx(2.6 * 2**30 / bytes_per_token, rel=0.01)


async def test_a_reply_ends_at_its_end_token(engine: Any, models: Path) -> None:
    question = prompt(models, "Which passage answers it?")
    completion = await engine.generate(question, GREEDY)
    assert (completion.text, completion.finish_reason) == (DEFAULT_REPLY, "stop")
    assert completion.prompt_tokens == len(question.token_ids)
    assert completion.output_tokens == len(DEFAULT_REPLY) + 1


async def test_a_reply_ends_at_max_tokens(engine: Any, models: Path) -> None:
    completion = await engine.generate(prompt(models, FOREVER), replace(GREEDY, max_tokens=7))
    assert (completion.text, completion.finish_reason) == ("x" * 7, "length")


async def test_a_reply_ends_at_a_stop_string_and_keeps_it(engine: Any, models: Path) -> None:
    wordy = prompt(models, f"{REPLY}<answer>[2] > [1]</answer> and more")
    completion = await engine.generate(wordy, replace(GREEDY, stop=("</answer>",)))
    assert (completion.text, completion.finish_reason) == ("<answer>[2] > [1]</answer>", "stop")


async def test_first_token_logprobs_come_in_the_order_of_the_choices(engine: Any, models: Path) -> None:
    question = prompt(models, "Which passage answers it?", choices=(70, 65, 90))
    completion = await engine.generate(question, replace(GREEDY, max_tokens=1))
    assert completion.choice_logprobs == (-1.0, -2.0, -3.0)


async def test_a_regex_holds_whatever_the_model_would_say(engine: Any, models: Path) -> None:
    ranking = r"\[(1|2|3)\]( > \[(1|2|3)\]){2}"
    completion = await engine.generate(prompt(models, f"{REPLY}Passage 2."), replace(GREEDY, regex=ranking))
    assert re.fullmatch(ranking, completion.text)


async def test_hundreds_of_requests_get_their_own_answers_although_the_cache_is_full(engine: Any, models: Path) -> None:
    replies = [f"number {number} " + "z" * 100 for number in range(300)]
    prompts = [prompt(models, reply + "y" * 3000 + REPLY + reply) for reply in replies]  # no shared prefix
    completions = await asyncio.gather(*(engine.generate(each, GREEDY) for each in prompts))
    assert [completion.text for completion in completions] == replies


async def test_requests_of_different_kinds_share_steps(engine: Any, models: Path) -> None:
    ranking = r"\[(1|2)\] > \[(1|2)\]"
    plain, structured, logprobs, sampled = await asyncio.gather(
        engine.generate(prompt(models, "plain"), GREEDY),
        engine.generate(prompt(models, "structured"), replace(GREEDY, regex=ranking)),
        engine.generate(prompt(models, "logprobs", choices=(65, 66)), replace(GREEDY, max_tokens=1)),
        engine.generate(prompt(models, "sampled"), replace(GREEDY, temperature=0.6, top_p=0.95, top_k=20, seed=7)),
    )
    assert plain.text == sampled.text == DEFAULT_REPLY
    assert re.fullmatch(ranking, structured.text)
    assert logprobs.choice_logprobs == (-1.0, -2.0)


async def test_a_cancelled_request_leaves_the_engine(engine: Any, models: Path) -> None:
    endless = asyncio.create_task(engine.generate(prompt(models, FOREVER), replace(GREEDY, max_tokens=30_000)))
    await unfinished_requests(engine, 1)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    await unfinished_requests(engine, 0)
    assert (await engine.generate(prompt(models, "next"), GREEDY)).text == DEFAULT_REPLY


@pytest.mark.parametrize("bad", ["too long", "unknown token"])
async def test_a_bad_request_fails_alone(engine: Any, models: Path, bad: str) -> None:
    token_ids = (65,) * (MAX_MODEL_LEN + 1) if bad == "too long" else (10**6,)
    results: Any = await asyncio.gather(
        engine.generate(replace(prompt(models, bad), token_ids=token_ids), GREEDY),
        engine.generate(prompt(models, "good"), GREEDY),
        return_exceptions=True,
    )
    assert isinstance(results[0], RequestError)
    assert results[1].text == DEFAULT_REPLY


async def test_a_pre_ranker_runs_beside_the_llm_on_one_gpu(
    engine: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    pre_ranker_config = ready_made("cascade-qwen3-reranker").pre_ranker
    assert pre_ranker_config is not None
    pre_ranker = create_pre_ranker(stubbed(pre_ranker_config.engine, models))
    await pre_ranker.start()
    try:
        scores, completion = await asyncio.gather(
            pre_ranker.score("what is it", ["short", "a longer passage", "the longest passage of all"]),
            engine.generate(prompt(models, "meanwhile"), GREEDY),
        )
    finally:
        await pre_ranker.stop()
    assert list(scores) == sorted(scores)
    assert scores[1] - scores[0] == len("a longer passage") - len("short")
    assert completion.text == DEFAULT_REPLY
    assert (await engine.generate(prompt(models, "after"), GREEDY)).text == DEFAULT_REPLY


async def test_a_lora_adapter_answers(models: Path) -> None:
    settings = stubbed(ready_made("reasonrank-7b").engine, models, lora_path=str(make_adapter_folder(models)))
    engine = create_engine(settings)
    await engine.start()
    try:
        completion = await engine.generate(prompt(models, f"{REPLY}text"), GREEDY)
    finally:
        await engine.stop()
    assert completion.text == f"{ADAPTER_REPLY}text"


async def unfinished_requests(engine: Any, wanted: int) -> None:
    """Wait until vLLM's own front end holds this many requests."""
    llm = engine.engine._llm
    async with asyncio.timeout(WATCHDOG_SECONDS):
        while llm.output_processor.get_num_unfinished_requests() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
