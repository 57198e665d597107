"""The engine against a simulated server, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from corpus_reranker.engines.base import EngineContext
from corpus_reranker.engines.openai.client import EndpointClient
from corpus_reranker.engines.openai.engine import OpenAIEngine
from corpus_reranker.engines.openai.probe import probe
from corpus_reranker.engines.openai.settings import OpenAISettings, ServerFeatures
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.types import Chat, Completion, Prompt, SamplingParams
from helpers.simulated_endpoint import Behavior, SimulatedServer
from helpers.virtual_time import run_in_virtual_time

URL = "http://server/v1"
PARAMS = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=100, seed=3, stop=("</answer>",))
KEY = "sk-secret-1234"


def prompt(passages: int = 2, text: str = "passage") -> Prompt:
    content = "".join(f"[{rank}] {text} {rank}\n" for rank in range(1, passages + 1))
    chat = Chat((("system", "You rank."), ("user", content)), (("enable_thinking", False),))
    return Prompt(f"<chat>{content}</chat>", (1, 2, 3, 4), chat=chat)


def engine_of(endpoint: SimulatedServer, /, count: Any = None, **changes: Any) -> OpenAIEngine:
    settings = OpenAISettings(
        **{"model": "m", "base_urls": URL, "server": ServerFeatures(), "tokenizer": "words"} | changes
    )
    context = EngineContext() if count is None else EngineContext(count=count)
    return OpenAIEngine(settings, context, endpoint.transport())


def complete(
    endpoint: SimulatedServer, prompts: Sequence[Prompt], params: SamplingParams = PARAMS, /, **changes: Any
) -> tuple[list[Completion | BaseException], float, OpenAIEngine]:
    """The outcomes of concurrent requests, the virtual seconds that they took, and the engine."""
    engine = engine_of(endpoint, **changes)

    async def run() -> tuple[list[Completion | BaseException], float]:
        await engine.start()
        endpoint.bodies.clear()
        started = asyncio.get_running_loop().time()
        calls = (engine.generate(each, params) for each in prompts)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        seconds = asyncio.get_running_loop().time() - started
        await engine.stop()
        return outcomes, seconds

    return *run_in_virtual_time(run()), engine


def test_a_chat_has_the_messages_of_the_template_and_no_stop_string() -> None:
    server = SimulatedServer()
    ((answer,), _, _) = complete(server, [prompt()])
    assert answer == Completion("[2] > [1]", "stop", 12, 9)
    (body,) = server.bodies
    assert body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You rank."},
            {"role": "user", "content": "[1] passage 1\n[2] passage 2\n"},
        ],
        "max_tokens": 100,
        "temperature": 0.0,
        "top_p": 1.0,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_reasoning_is_put_back_before_the_answer() -> None:
    ((answer,), _, _) = complete(SimulatedServer(Behavior(reasoning="2 is better.")), [prompt()])
    assert isinstance(answer, Completion)
    assert answer.text == "<think>2 is better.</think>[2] > [1]"


def test_sampling_parameters_are_sent_unless_they_are_neutral_or_omitted() -> None:
    server = SimulatedServer()
    params = SamplingParams(0.6, 0.95, 20, 0.1, max_tokens=50, seed=3)
    complete(server, [prompt()], params, omit=["seed"], extra_body={"reasoning_effort": "low"})
    body = server.bodies[0]
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (0.6, 0.95, 20, 0.1)
    assert "seed" not in body
    assert body["reasoning_effort"] == "low"


def test_a_server_with_vllms_parameters_gets_the_neutral_ones_too() -> None:
    server = SimulatedServer()
    complete(server, [prompt()], server=ServerFeatures(regex="structured_outputs"))
    body = server.bodies[0]
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)


def test_a_response_that_is_no_completion_is_requested_again() -> None:
    class Broken(SimulatedServer):
        async def answer(self, path: str, headers: Any, body: dict[str, Any]) -> Any:
            status, more, content = await super().answer(path, headers, body)
            return status, more, "<html>" if self.counts["requests"] in (2, 3) else content

    ((answer,), _, _) = complete(Broken(), [prompt()])
    assert isinstance(answer, Completion)
    assert answer.text == "[2] > [1]"


def test_completions_send_token_ids_stop_strings_and_choices_to_a_server_that_takes_them() -> None:
    server = SimulatedServer()
    features = ServerFeatures(token_ids=True, stop_in_text=True, choice_logprobs=True)
    ids = Prompt("[1] a\n", (4, 5, 6), choices=(9, 7))
    ((answer,), _, _) = complete(server, [ids], api="completions", tokenizer="hub/id", server=features)
    assert isinstance(answer, Completion)
    assert answer.choice_logprobs == (-9.0, -7.0)
    body = server.bodies[0]
    assert body["prompt"] == [4, 5, 6]
    assert body["include_stop_str_in_output"] is True
    assert body["stop"] == ["</answer>"]


def test_completions_send_text_and_no_stop_string_to_any_other_server() -> None:
    server = SimulatedServer()
    complete(server, [prompt()], api="completions", tokenizer="hub/id")
    assert server.bodies[0]["prompt"] == prompt().text
    assert "stop" not in server.bodies[0]


def test_a_chat_cannot_continue_a_response() -> None:
    ((answer,), _, _) = complete(SimulatedServer(), [Prompt("text <think>", (1,))])
    assert isinstance(answer, RequestError)


def test_refusals_failures_drops_and_stalls_lose_nothing() -> None:
    server = SimulatedServer(Behavior(seconds=5.0, faults=["refuse", "unavailable", "drop", "stall"], every=3))
    counts: Counter[str] = Counter()
    answers, _, _ = complete(
        server,
        [prompt(passages) for passages in range(1, 61)],
        count=lambda name, n: counts.update({name: n}),
        request_timeout_seconds=60.0,
    )
    assert [answer.text.count("[") for answer in answers if isinstance(answer, Completion)] == list(range(1, 61))
    assert all(server.counts[fault] >= 5 for fault in ("refuse", "unavailable", "drop", "stall"))
    assert counts["requests_refused"] == server.counts["refuse"] + server.counts["unavailable"]
    assert counts["requests_lost"] == server.counts["drop"] + server.counts["stall"]
    billed = {name: counts[f"billed_{name}"] for name in ("prompt_tokens", "cached_prompt_tokens", "output_tokens")}
    assert billed == {name: server.counts[name] for name in billed}


def test_retry_after_delays_every_request_to_the_endpoint() -> None:
    server = SimulatedServer(Behavior(seconds=1.0, faults=["refuse"], every=2, retry_after="50"))
    _, seconds, _ = complete(server, [prompt()] * 4, max_num_seqs=1)
    assert server.counts["refuse"] == 4
    assert seconds == pytest.approx(4 * 50 + 4, abs=3)


@pytest.mark.parametrize("best", [3, 12, 40])
def test_the_concurrency_found_is_close_to_what_the_server_takes(best: int) -> None:
    server = SimulatedServer(Behavior(seconds=20.0, max_in_flight=best))
    requests = best * 60
    _, seconds, engine = complete(server, [prompt()] * requests)
    fixed_seconds = requests / best * 20.0
    assert fixed_seconds / seconds > 0.9
    assert server.counts["peak"] == best
    assert abs(engine.info()["concurrency"] - best) <= max(0.1 * best, 1)


def test_two_endpoints_share_the_load_by_their_speed() -> None:
    slow, fast = SimulatedServer(Behavior(seconds=30.0)), SimulatedServer(Behavior(seconds=10.0))

    class Both(SimulatedServer):
        async def answer(self, path: str, headers: Any, body: dict[str, Any]) -> Any:
            return await (fast if "fast" in headers["host"] else slow).answer(path, headers, body)

    urls = ["http://slow/v1", "http://fast/v1"]
    complete(Both(), [prompt()] * 200, base_urls=urls, max_num_seqs=8)
    assert fast.counts["requests"] == pytest.approx(3 * slow.counts["requests"], rel=0.1)


def test_an_endpoint_that_is_down_leaves_its_requests_to_the_others() -> None:
    up, down = SimulatedServer(Behavior(seconds=1.0)), SimulatedServer(down=True)

    class Both(SimulatedServer):
        async def answer(self, path: str, headers: Any, body: dict[str, Any]) -> Any:
            self.counts[headers["host"]] += 1
            return await (down if "down" in headers["host"] else up).answer(path, headers, body)

    both = Both()
    answers, seconds, _ = complete(both, [prompt()] * 300, base_urls=["http://down/v1", "http://up/v1"])
    assert all(isinstance(answer, Completion) for answer in answers)
    assert both.counts["down"] < 40
    assert seconds < 60


def test_an_outage_longer_than_the_setting_ends_the_engine() -> None:
    server = SimulatedServer(Behavior(seconds=1.0))
    engine = engine_of(server, max_outage_seconds=120.0)

    async def run() -> tuple[float, BaseException]:
        await engine.start()
        await engine.generate(prompt(), PARAMS)
        server.down = True
        started = asyncio.get_running_loop().time()
        with pytest.raises(EngineDeadError, match=r"120 s \(engine.max_outage_seconds\); http://server/v1: ") as raised:
            await asyncio.gather(*(engine.generate(prompt(), PARAMS) for _ in range(20)))
        return asyncio.get_running_loop().time() - started, raised.value

    seconds, _ = run_in_virtual_time(run())
    assert 120 < seconds < 200


def test_a_shorter_outage_is_waited_for_at_the_start_and_later() -> None:
    server = SimulatedServer(Behavior(seconds=1.0), down=True)
    engine = engine_of(server)

    async def back_after(seconds: float) -> None:
        await asyncio.sleep(seconds)
        server.down = False

    async def run() -> list[Completion]:
        back = asyncio.create_task(back_after(100))
        await engine.start()
        await back
        await engine.generate(prompt(), PARAMS)
        server.down = True
        back = asyncio.create_task(back_after(200))
        answers = await asyncio.gather(*(engine.generate(prompt(), PARAMS) for _ in range(50)))
        await back
        return answers

    assert len(run_in_virtual_time(run())) == 50
    assert engine.info()["concurrency"] > 8  # it grows as fast as at the start


def test_a_start_waits_for_a_server_that_refuses_every_request() -> None:
    server = SimulatedServer(Behavior(max_in_flight=0))
    engine = engine_of(server)

    async def run() -> float:
        start = asyncio.create_task(engine.start())
        await asyncio.sleep(200)
        assert not start.done()
        server.behavior = Behavior()
        await start
        return asyncio.get_running_loop().time()

    assert 200 <= run_in_virtual_time(run()) < 260


def test_no_endpoint_at_the_start_is_an_error_with_the_reason() -> None:
    with pytest.raises(EngineStartError, match=r"no endpoint answered for 300 s .*disconnected"):
        complete(SimulatedServer(down=True), [])


def test_a_request_that_the_server_refuses_fails_alone_and_at_once() -> None:
    server = SimulatedServer(Behavior(rejected=["min_p"]))
    params = SamplingParams(0.0, 1.0, 0, 0.5, max_tokens=10, seed=0)
    (answers, seconds, _) = complete(server, [prompt()], params)
    assert isinstance(answers[0], RequestError)
    assert "status 400: " in str(answers[0])
    assert "unsupported parameter: min_p" in str(answers[0])
    assert (len(server.bodies), seconds) == (1, 0.0)


def test_a_request_is_given_up_if_all_others_succeed() -> None:
    class Crashing(SimulatedServer):
        async def answer(self, path: str, headers: Any, body: dict[str, Any]) -> Any:
            if "poison" in str(body):
                await asyncio.sleep(0.5)
                return 500, {}, {"error": {"message": "crashed"}}
            return await super().answer(path, headers, body)

    engine = engine_of(Crashing(Behavior(seconds=1.0)))

    async def others() -> None:
        for _ in range(100):
            await engine.generate(prompt(), PARAMS)

    async def run() -> None:
        await engine.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(others())
            with pytest.raises(RequestError, match=r"failed 5 times while the endpoint answered others: .* status 500"):
                await engine.generate(prompt(text="poison"), PARAMS)

    run_in_virtual_time(run())


def test_a_key_that_is_refused_later_ends_the_engine_and_its_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server = SimulatedServer(Behavior(key=KEY))

    async def run() -> list[str]:
        engine = engine_of(server, api_key_env="MY_KEY")
        await engine.start()
        await engine.generate(prompt(), PARAMS)
        server.behavior = Behavior(key="another")
        with pytest.raises(EngineDeadError) as dead:
            await engine.generate(prompt(), PARAMS)
        with pytest.raises(ConfigError) as refused:
            await engine_of(server, api_key_env="MY_KEY").start()
        return [str(dead.value), str(refused.value)]

    for reason in run_in_virtual_time(run()):
        assert "the environment variable MY_KEY (engine.api_key_env) holds a key that is refused" in reason
        assert "incorrect API key: ***" in reason
        assert KEY not in reason


def test_the_key_in_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    ((answer,), _, _) = complete(SimulatedServer(Behavior(key=KEY)), [prompt()], api_key_env="MY_KEY")
    assert isinstance(answer, Completion)


def test_requests_per_minute_are_kept() -> None:
    server = SimulatedServer(Behavior(seconds=1.0))
    _, seconds, _ = complete(server, [prompt()] * 31, max_requests_per_minute=60.0)
    assert seconds == pytest.approx(31.0)


def test_tokens_per_minute_are_kept() -> None:
    server = SimulatedServer(Behavior(seconds=1.0))
    _, seconds, _ = complete(server, [prompt()] * 200, max_tokens_per_minute=600.0)
    tokens = server.counts["prompt_tokens"] + server.counts["output_tokens"]
    assert tokens / seconds * 60 == pytest.approx(600, rel=0.05)


def test_a_probe_of_a_busy_server_waits_no_longer_than_the_outage_limit() -> None:
    server = SimulatedServer(Behavior(faults=["refuse"], every=1, retry_after="86400"))
    settings = OpenAISettings(model="m", base_urls=URL, tokenizer="words")

    async def run() -> float:
        started = asyncio.get_running_loop().time()
        with pytest.raises(EngineStartError, match="cannot reach the endpoint"):
            await probe(settings, EndpointClient(settings, server.transport()))
        return asyncio.get_running_loop().time() - started

    assert run_in_virtual_time(run()) < 1.0
    assert server.counts["requests"] == 1


def probed(behavior: Behavior, **changes: Any) -> ServerFeatures:
    server = SimulatedServer(behavior)
    counts: Counter[str] = Counter()
    changes = {"server": None, "count": lambda name, n: counts.update({name: n}), **changes}
    _, _, engine = complete(server, [], **changes)
    features = ServerFeatures(**engine.info()["server"])
    assert counts["billed_prompt_tokens"] == server.counts["prompt_tokens"] >= features.prompt_tokens > 0
    assert counts["billed_output_tokens"] == server.counts["output_tokens"] >= features.output_tokens > 0
    return features


def test_the_features_of_a_server_are_found_at_the_start() -> None:
    full = probed(Behavior(), api="completions", tokenizer="hub/id")
    assert (full.token_ids, full.choice_logprobs, full.stop_in_text, full.regex) == (
        *(True, True, True),
        "structured_outputs",
    )
    plain = probed(Behavior(extensions=False, rejected=["logprob_token_ids"]), api="completions", tokenizer="hub/id")
    assert (plain.token_ids, plain.choice_logprobs, plain.stop_in_text, plain.regex) == (True, False, False, None)
    assert probed(Behavior(rejected=["max_tokens"])).max_completion_tokens
    assert probed(Behavior()).regex == "structured_outputs"


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        (Behavior(key="another"), r"status 401: .*the environment variable OPENAI_API_KEY .* is not set"),
        (
            Behavior(models=["n"]),
            r"status 404: .*m does not exist.*; set engine\.model, now m, to",
        ),
        (Behavior(rejected=["temperature"]), r"refuses a plain request: .*temperature.*; see engine\.omit"),
    ],
)
def test_wrong_settings_are_found_at_the_start(
    behavior: Behavior, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=reason):
        probed(behavior)
