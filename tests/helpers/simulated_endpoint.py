"""A simulated server with OpenAI's API, in this process with virtual time or in a process of its own.

It ranks the passages of a prompt in reverse order, counts tokens as the word tokenizer does, and can be overloaded,
busy, failing or slow. `python -m helpers.simulated_endpoint '{"seconds": 0.1}'` serves one and prints its port.
"""

import asyncio
import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import httpx2
from aiohttp import web

from corpus_reranker.engines.scripted import passages
from corpus_reranker.prompts.tokenizer import WordsTokenizer
from helpers.paths import REPOSITORY

Fault: TypeAlias = Literal["refuse", "unavailable", "drop", "stall"]
"""refuse: status 429 with Retry-After. unavailable: status 503. drop: the connection is closed without a response.
stall: no response at all."""


@dataclass(frozen=True)
class Behavior:
    """How the server answers.

    Attributes:
        seconds: Mean duration of a completion.
        spread: Sigma of the durations, which are lognormal. 0: all are equal.
        max_in_flight: Further requests are refused with status 429.
        slowdown_from: With more requests in flight than this, a completion takes longer in proportion.
        retry_after: The header of refusals.
        faults: Every `every`-th completion request meets the next of these, in turn.
        key: The key that requests must have.
        models: Names of the models.
        rejected: Request parameters that are answered with status 400.
        reasoning: Reasoning of each chat message.
        extensions: Whether the server has vLLM's request parameters.
    """

    seconds: float = 0.0
    spread: float = 0.0
    max_in_flight: int | None = None
    slowdown_from: int | None = None
    retry_after: str = "1"
    faults: Sequence[Fault] = ()
    every: int = 5
    key: str | None = None
    models: Sequence[str] = ("m",)
    rejected: Sequence[str] = ()
    reasoning: str | None = None
    extensions: bool = True


class ConnectionDropped(Exception):
    """The server closes the connection without a response."""


@dataclass
class SimulatedServer:
    """Answers requests, and counts what it bills."""

    behavior: Behavior = field(default_factory=Behavior)
    counts: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    down: bool = False
    busy_seconds: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    async def answer(
        self, path: str, headers: Mapping[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of the response. Raises ConnectionDropped."""
        behavior = self.behavior
        if self.down:
            await asyncio.sleep(0.01)
            raise ConnectionDropped
        if behavior.key is not None and headers.get("authorization") != f"Bearer {behavior.key}":
            sent = headers.get("authorization", "").removeprefix("Bearer ")
            return 401, {}, {"error": {"message": f"incorrect API key: {sent}"}}
        if body["model"] not in behavior.models:
            return 404, {}, {"error": {"message": f"the model {body['model']} does not exist"}}
        self.counts["requests"] += 1
        self.bodies.append(body)
        if rejected := sorted(set(body) & set(behavior.rejected)):
            hint = "; use max_completion_tokens" if rejected == ["max_tokens"] else ""
            return 400, {}, {"error": {"message": f"unsupported parameter: {rejected[0]}{hint}"}}
        if fault := self._fault():
            return await self._fail(fault)
        if behavior.max_in_flight is not None and self.in_flight >= behavior.max_in_flight:
            return await self._fail("refuse")
        self.in_flight += 1
        self.counts["peak"] = max(self.counts["peak"], self.in_flight)
        try:
            slowdown = self.in_flight / behavior.slowdown_from if behavior.slowdown_from else 1.0
            drawn = self.rng.lognormvariate(-(behavior.spread**2) / 2, behavior.spread)
            self.busy_seconds += behavior.seconds * drawn
            await asyncio.sleep(behavior.seconds * drawn * max(slowdown, 1.0))
        finally:
            self.in_flight -= 1
        return 200, {}, self._complete(body, is_chat=path.endswith("/chat/completions"))

    def transport(self) -> httpx2.AsyncBaseTransport:
        """The server as a transport of the openai client."""

        async def handle(request: httpx2.Request) -> httpx2.Response:
            body = json.loads(request.content) if request.content else {}
            try:
                status, headers, content = await self.answer(request.url.path, request.headers, body)
            except ConnectionDropped:
                raise httpx2.RemoteProtocolError("server disconnected without sending a response") from None
            return httpx2.Response(status, headers=headers, json=content)

        return httpx2.MockTransport(handle)

    def _fault(self) -> Fault | None:
        if not self.behavior.faults or self.counts["requests"] % self.behavior.every:
            return None
        return self.behavior.faults[self.counts["requests"] // self.behavior.every % len(self.behavior.faults)]

    async def _fail(self, fault: Fault) -> tuple[int, dict[str, str], Any]:
        self.counts[fault] += 1
        if fault == "drop":
            raise ConnectionDropped
        if fault == "stall":
            await asyncio.sleep(3600)
        status = 429 if fault == "refuse" else 503
        return status, {"retry-after": self.behavior.retry_after}, {"error": {"message": "busy"}}

    def _complete(self, body: dict[str, Any], *, is_chat: bool) -> dict[str, Any]:
        text = body["messages"][-1]["content"] if is_chat else body["prompt"]
        is_ids = isinstance(text, list)
        prompt_tokens = len(text) if is_ids else len(WordsTokenizer().tokenize(text))
        answer = " > ".join(f"[{number}]" for number in range(len(passages("" if is_ids else text)), 0, -1))
        answer = self._structured(body) or answer or "Hello."
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(WordsTokenizer().tokenize(answer)),
            "prompt_tokens_details": {"cached_tokens": prompt_tokens // 3},
        }
        self.counts["prompt_tokens"] += prompt_tokens
        self.counts["cached_prompt_tokens"] += prompt_tokens // 3
        self.counts["output_tokens"] += usage["completion_tokens"]  # type: ignore[operator]
        choice: dict[str, Any] = {"finish_reason": "stop"}
        if is_chat:
            choice["message"] = {"role": "assistant", "content": answer, "reasoning_content": self.behavior.reasoning}
        else:
            choice["text"] = answer
            if self.behavior.extensions and "logprob_token_ids" in body:
                top = {f"token_id:{token_id}": -float(token_id) for token_id in body["logprob_token_ids"]}
                choice["logprobs"] = {"top_logprobs": [top]}
        return {"choices": [choice], "usage": usage}

    def _structured(self, body: dict[str, Any]) -> str | None:
        """The only text that the probe's regex matches."""
        wanted = self.behavior.extensions and body.get("structured_outputs")
        return "[7] > [3] > [5]" if wanted else None


class EndpointProcess:
    """A simulated endpoint in another process."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def counts(self) -> Counter[str]:
        """What the server has counted so far."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/counts", timeout=30) as response:
            return Counter(json.load(response))


@contextlib.contextmanager
def endpoint_process(behavior: Behavior) -> Iterator[EndpointProcess]:
    """Serve `behavior` in a process that stops when the context exits."""
    command = [sys.executable, "-m", "helpers.simulated_endpoint", json.dumps(dataclasses.asdict(behavior))]
    paths = f"{REPOSITORY}/pipeline:{REPOSITORY}/tests"
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": paths}, cwd=REPOSITORY) as process:
        try:
            assert process.stdout is not None
            yield EndpointProcess(int(process.stdout.readline()))
        finally:
            process.kill()


async def serve(server: SimulatedServer) -> None:
    """Serve on a free port of the loopback interface, and print it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/counts":
            return web.json_response(server.counts)
        body = await request.json() if request.can_read_body else {}
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            status, more, content = await server.answer(request.path, headers, body)
        except ConnectionDropped:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response(content, status=status, headers=more)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(SimulatedServer(Behavior(**json.loads(sys.argv[1])))))
