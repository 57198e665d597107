"""A real model in vLLM on the CPU, started once for all tests but the first. The last test kills the engine core."""

import asyncio
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.engines.base import Engine
from corpus_reranker.engines.openai.engine import OpenAIEngine
from corpus_reranker.engines.openai.settings import OpenAISettings
from corpus_reranker.engines.vllm.engine import VllmEngine
from corpus_reranker.engines.vllm.sampling import completion, reasoning_tokens
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.paths import PROMPTS_DIRECTORY
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template, template_path
from corpus_reranker.prompts.tokenizer import load_tokenizer
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.pointwise import Pointwise
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.types import Candidate, Completion, Prompt, RerankRequest, SamplingParams
from helpers.fault_proxy import Fault, fault_proxy
from helpers.prompt_factories import PROMPTS, request_of
from helpers.vllm_server import vllm_server

pytestmark = pytest.mark.vllm

MAX_MODEL_LEN = 2048
START, END = "<|im_start|>", "<file_sep>"
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=24, seed=0)
SAMPLED = replace(GREEDY, temperature=1.0)
LONG = replace(SAMPLED, max_tokens=1900)  # takes minutes unless it is aborted
WATCHDOG_SECONDS = 60.0


def vllm_settings(demo_model: Path, **changes: Any) -> VllmSettings:
    settings: dict[str, Any] = {
        "model": str(demo_model),
        "device": "cpu",
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": MAX_MODEL_LEN,
        "max_num_seqs": 8,
        "kv_cache_gib": 1,
        # the assistant turn starts the reasoning; the model never generates the end token itself
        "engine_kwargs": {"reasoning_config": {"reasoning_start_str": START, "reasoning_end_str": END}},
    }
    return VllmSettings(**settings | changes)


@pytest.fixture(scope="module")
def engine(demo_model: Path) -> Iterator[VllmEngine]:
    engine = VllmEngine(vllm_settings(demo_model))
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.stop())
    asyncio.run(engine.stop())
    assert not engine_cores()


@pytest.fixture(scope="module")
def tokens(demo_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(demo_model)


def engine_cores() -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.name == "EngineCore"]


def chat_prompt(tokens: Any, text: str) -> Prompt:
    rendered = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return Prompt(rendered, tuple(tokens(rendered)["input_ids"]))


async def until_running(engine: VllmEngine, requests: int) -> None:
    """Wait until vLLM has this number of unfinished requests."""
    async with asyncio.timeout(WATCHDOG_SECONDS):
        while engine._llm is not None and engine._llm.get_num_unfinished_requests() != requests:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_failed_start_gives_the_reason(demo_model: Path) -> None:
    engine = VllmEngine(vllm_settings(demo_model, max_model_len=100_000))
    with pytest.raises(EngineStartError, match=r"max_model_len \(100000\) is greater than"):
        await engine.start()
    await engine.stop()
    with pytest.raises(EngineDeadError):
        await engine.generate(Prompt("", (1,)), GREEDY)
    misspelled = VllmEngine(vllm_settings(demo_model, engine_kwargs={"enable_prefix_cachin": False}))
    with pytest.raises(ConfigError, match="did you mean 'enable_prefix_caching'"):
        await misspelled.start()
    with pytest.raises(ConfigError, match="CPU build"):
        await VllmEngine(vllm_settings(demo_model, device="gpu")).start()


async def test_a_prompt_of_token_ids_is_completed(engine: VllmEngine, tokens: Any) -> None:
    prompt = chat_prompt(tokens, "What is the capital of France?")
    completion = await engine.generate(prompt, GREEDY)
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    assert completion.prompt_tokens == len(prompt.token_ids)
    assert 1 < completion.output_tokens < GREEDY.max_tokens


async def test_generation_ends_at_max_tokens_and_after_a_stop_string(engine: VllmEngine, tokens: Any) -> None:
    prompt = chat_prompt(tokens, "What is the capital of France?")
    truncated = await engine.generate(prompt, replace(GREEDY, max_tokens=3))
    assert (truncated.finish_reason, truncated.output_tokens) == ("length", 3)
    stopped = await engine.generate(prompt, replace(GREEDY, stop=("France",)))
    assert stopped.finish_reason == "stop"
    assert stopped.text.endswith("France")


async def test_choice_logprobs_are_those_of_the_first_token(engine: VllmEngine, tokens: Any) -> None:
    prompt = chat_prompt(tokens, "What is the capital of France?")
    first = (await engine.generate(prompt, replace(GREEDY, max_tokens=1))).text
    rome, likeliest = tokens.convert_tokens_to_ids(["Rome", first])
    scored = await engine.generate(replace(prompt, choices=(rome, likeliest)), replace(GREEDY, max_tokens=1))
    assert 0 > scored.choice_logprobs[1] > scored.choice_logprobs[0]
    assert scored.text == first


@pytest.mark.parametrize("name", ["qwen3-reranker", "rank1"])
async def test_passages_are_ranked_by_the_logits_of_the_model(engine: VllmEngine, tokens: Any, name: str) -> None:
    template = load_template(PROMPTS / f"{name}.yaml")
    prompt_builder = PromptBuilder(template, tokens, 64, MAX_MODEL_LEN - 20)
    request = request_of("What is the capital of France?", ["Paris is the capital.", "Bees make honey.", "yes yes yes"])
    sampling = replace(GREEDY, max_tokens=template.parser.max_tokens or 20, stop=template.parser.stop)
    requested: list[Prompt] = []

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        requested.append(prompt)
        return await engine.generate(prompt, params)

    result = await rerank_query(
        request,
        template.parser.extend(generate, tokens.encode),
        strategy=Pointwise(),
        prompt_builder=prompt_builder,
        parser=template.parser,
        sampling=sampling,
    )
    assert result.status == "complete"
    assert result.llm_scores is not None
    scores = [score for score in result.llm_scores if score is not None]
    assert len(set(scores)) == 3
    assert list(result.order) == sorted(range(3), key=lambda index: -scores[index])
    last = [prompt for prompt in requested if prompt.choices]
    alone = [(await engine.generate(prompt, replace(GREEDY, max_tokens=1))).choice_logprobs for prompt in last]
    assert sorted(yes - no for yes, no in alone) == pytest.approx(sorted(scores), abs=1e-3)
    assert [tokens.decode([token_id]) for token_id in last[0].choices] == list(template.choices or ())


async def test_passages_are_ranked_by_the_scores_that_the_model_states(engine: VllmEngine, tokens: Any) -> None:
    """A regular expression holds this small model to ERank's output format. The scores are its own."""
    template = load_template(PROMPTS / "erank.yaml")
    request = request_of("What is the capital of France?", ["Bees make honey.", "Paris is the capital.", "yes yes yes"])
    regex = "<think>[a-z ]{1,20}</think><answer>(10|[0-9])</answer>"
    stated: dict[int, float] = {}

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        completion = await engine.generate(prompt, params)
        (shown,) = (index for index, each in enumerate(request.candidates) if each.text in prompt.text)
        stated[shown] = float(completion.text.partition("<answer>")[2].removesuffix("</answer>"))
        return completion

    result = await rerank_query(
        request,
        template.parser.extend(generate, tokens.encode),
        strategy=Pointwise(),
        prompt_builder=PromptBuilder(template, tokens, 64, MAX_MODEL_LEN - 60),
        parser=template.parser,
        sampling=replace(SAMPLED, max_tokens=60, regex=regex),
    )
    assert result.status == "complete"
    assert result.llm_scores == [stated[index] for index in range(3)]
    assert list(result.order) == sorted(range(3), key=lambda index: -stated[index])


async def test_a_completion_matches_its_regex(engine: VllmEngine, tokens: Any) -> None:
    ranking = r"\[(1|2|3)\]( > \[(1|2|3)\]){2}"
    completion = await engine.generate(chat_prompt(tokens, "Tell me a story."), replace(GREEDY, regex=ranking))
    assert re.fullmatch(ranking, completion.text)
    assert completion.finish_reason == "stop"


async def test_the_engine_closes_reasoning_at_its_budget(
    engine: VllmEngine, tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finals: list[Any] = []

    def recording(final: Any, *arguments: Any) -> Completion:
        finals.append(final)
        return completion(final, *arguments)

    monkeypatch.setattr("corpus_reranker.engines.vllm.engine.completion", recording)
    assert engine.capabilities.reasoning_budget
    prompt = chat_prompt(tokens, "Tell me a story.")
    start_id, end_id = tokens.convert_tokens_to_ids([START, END])
    for budget in (3, 8, None):
        await engine.generate(prompt, replace(GREEDY, max_reasoning_tokens=budget, max_tokens=12))
        token_ids = [*prompt.token_ids, *finals[-1].outputs[0].token_ids]
        if budget is None:
            assert end_id not in token_ids
        else:
            assert reasoning_tokens(token_ids, start_id, end_id) == budget


async def test_every_step_of_the_engine_is_progress(engine: VllmEngine, tokens: Any) -> None:
    before = engine.progress()
    answer = await engine.generate(chat_prompt(tokens, "Tell me a story."), replace(GREEDY, max_tokens=10))
    assert engine.progress() - before >= answer.output_tokens - 1  # the first step may precede the call


async def test_a_seed_gives_the_same_completion_beside_other_requests(engine: VllmEngine, tokens: Any) -> None:
    prompt = chat_prompt(tokens, "Tell me a story.")
    alone = await engine.generate(prompt, SAMPLED)
    together = await asyncio.gather(*(engine.generate(prompt, replace(SAMPLED, seed=seed)) for seed in range(6)))
    assert together[0] == alone
    assert len({completion.text for completion in together}) > 1


async def test_a_prompt_longer_than_the_context_fails_alone(engine: VllmEngine, tokens: Any) -> None:
    too_long, good = Prompt("", (5,) * (MAX_MODEL_LEN + 1)), chat_prompt(tokens, "Hello?")
    failed, completed = await asyncio.gather(
        engine.generate(too_long, GREEDY), engine.generate(good, GREEDY), return_exceptions=True
    )
    assert isinstance(failed, RequestError)
    assert str(MAX_MODEL_LEN) in str(failed)
    assert not isinstance(completed, BaseException)


async def test_a_cancelled_call_is_aborted_in_the_engine(engine: VllmEngine, tokens: Any) -> None:
    call = asyncio.create_task(engine.generate(chat_prompt(tokens, "Count to a million."), LONG))
    await until_running(engine, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until_running(engine, 0)
    completion = await engine.generate(chat_prompt(tokens, "What is the capital of France?"), GREEDY)
    assert "Paris" in completion.text


def test_info_has_version_and_capacity(engine: VllmEngine) -> None:
    info = engine.info()
    assert info["engine"] == "vllm"
    assert info["simulated"] is False
    assert info["device"] == "cpu"
    assert info["max_num_seqs"] == 8
    assert info["max_model_len"] == MAX_MODEL_LEN
    assert info["sliding_layers_fraction"] == 0
    # 1 GiB of float32 keys and values: 30 layers, 3 KV heads of 64
    assert info["kv_cache_tokens"] == pytest.approx(2**30 / (2 * 4 * 30 * 3 * 64), rel=0.01)


QUERIES = {
    "Which fruit is red?": (
        "Bananas are yellow.",
        "Cherries are red.",
        "Plums are blue.",
        "Limes are green.",
        "Figs vary.",
    ),
    "Which planet is red?": (
        "Neptune is blue.",
        "Venus is white.",
        "Earth is blue.",
        "Mars is red.",
        "Saturn has rings.",
    ),
}


async def rerank_with(engine: Engine, prompt_builder: PromptBuilder) -> list[Any]:
    """Rerank QUERIES one window at a time, so that no two windows share a batch.

    Returns:
        What must not depend on the engine: the order of each query, and each window without its latency.
    """
    rankings = []
    for query, texts in QUERIES.items():
        result = await rerank_query(
            RerankRequest(query, query, tuple(Candidate(f"d{rank}", text, -rank) for rank, text in enumerate(texts))),
            engine.generate,
            strategy=SlidingWindow(window=4, stride=2),
            prompt_builder=prompt_builder,
            parser=prompt_builder.parser,
            sampling=replace(GREEDY, max_tokens=16),
            policy=RetryPolicy(max_attempts=1),
        )
        rankings.append((result.order, [replace(window, latency_seconds=0.0) for window in result.windows]))
    return rankings


@pytest.mark.slow
async def test_an_endpoint_ranks_as_the_engine_in_process(engine: VllmEngine, demo_model: Path, tmp_path: Path) -> None:
    template = load_template(template_path("rankgpt", PROMPTS_DIRECTORY))
    prompt_builder = PromptBuilder(template, load_tokenizer(str(demo_model)), 48, MAX_MODEL_LEN - 16)
    expected = await rerank_with(engine, prompt_builder)
    windows = [window for _, of_query in expected for window in of_query]
    assert len(windows) == 4
    assert len({window.response for window in windows}) > 1
    options = ("--dtype=float32", "--enforce-eager", f"--max-model-len={MAX_MODEL_LEN}", "--max-num-seqs=8")
    with vllm_server(demo_model, "smol", tmp_path / "server.log", *options) as url:
        faults: list[Fault] = ["refuse", "slow_down", "reset_before", "reset_after"]
        with fault_proxy(url, faults, every=2) as proxy:
            for api, base_url in (("completions", url), ("chat", url), ("completions", proxy.endpoint_url)):
                settings = OpenAISettings(model="smol", base_urls=f"{base_url}/v1", api=api, tokenizer=str(demo_model))
                endpoint = OpenAIEngine(settings)
                await endpoint.start()
                server, takes_ids = endpoint.info()["server"], api == "completions"
                assert (server["token_ids"], server["choice_logprobs"]) == (takes_ids, takes_ids)
                assert server["regex"] == "structured_outputs"
                assert await rerank_with(endpoint, prompt_builder) == expected
                await endpoint.stop()
        assert proxy.injected.keys() == set(faults)


async def test_a_killed_engine_core_fails_every_request_at_once(engine: VllmEngine, tokens: Any) -> None:
    calls = [
        asyncio.create_task(engine.generate(chat_prompt(tokens, "Count to a million."), replace(LONG, seed=seed)))
        for seed in range(3)
    ]
    await until_running(engine, len(calls))
    (core,) = engine_cores()
    assert core.pid is not None
    os.kill(core.pid, signal.SIGKILL)
    async with asyncio.timeout(WATCHDOG_SECONDS):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(EngineDeadError):
            await engine.generate(chat_prompt(tokens, "Hello?"), GREEDY)
    assert [type(outcome) for outcome in outcomes] == [EngineDeadError] * len(calls)
    assert "SIGKILL" in str(outcomes[0])
