"""The concurrency that the engine `openai` finds, compared with the best fixed one, on a simulated server.

    PYTHONPATH=tests python tests/benchmarks/endpoint_concurrency.py [--rounds 60]

Runs in virtual time, so the figures do not depend on the machine. A completion takes 20 s on average, lognormal with
sigma 0.3. The server refuses requests beyond its limit with status 429 and `Retry-After: 1`, or queues them. A fixed
concurrency sends each refused request again after that time.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer

from corpus_reranker.engines.openai.engine import OpenAIEngine
from corpus_reranker.engines.openai.settings import OpenAISettings, ServerFeatures
from corpus_reranker.types import Chat, Prompt, SamplingParams
from helpers.simulated_endpoint import Behavior, SimulatedServer
from helpers.virtual_time import run_in_virtual_time

SECONDS, SPREAD = 20.0, 0.3
FRACTIONS = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
"""Fixed concurrencies to try, as fractions of what the server takes."""

PROMPT = Prompt("rank", (1, 2, 3), chat=Chat((("user", "[1] a\n[2] b\n"),)))
PARAMS = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=10, seed=0)
BODY = {"model": "m", "messages": [{"role": "user", "content": "[1] a\n[2] b\n"}]}


@dataclass(frozen=True)
class Result:
    """Completions per second, mean number of running completions, and refused requests for each completion."""

    per_second: float
    running: float
    refused: float


def with_engine(behavior: Behavior, requests: int, max_num_seqs: int) -> Result:
    """Requests through the engine, an eighth more at once than it sends, as the admission of a replica does."""
    server = SimulatedServer(behavior)
    settings = OpenAISettings(
        model="m", base_urls="http://server/v1", max_num_seqs=max_num_seqs, server=ServerFeatures()
    )
    engine = OpenAIEngine(settings, transport=server.transport())

    async def run() -> float:
        await engine.start()
        left, active = requests, set[asyncio.Task[object]]()
        started = asyncio.get_running_loop().time()
        while left or active:
            while left and len(active) < engine.info()["concurrency"] * 9 // 8 + 1:
                active.add(asyncio.create_task(engine.generate(PROMPT, PARAMS)))
                left -= 1
            _, active = await asyncio.wait(active, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        return asyncio.get_running_loop().time() - started

    return result_of(server, requests, run_in_virtual_time(run()))


def with_fixed(behavior: Behavior, requests: int, concurrency: int) -> Result:
    """The same requests, with a fixed number of them at once."""
    server = SimulatedServer(behavior)

    async def run() -> float:
        slots = asyncio.Semaphore(concurrency)

        async def complete() -> None:
            async with slots:
                while True:
                    status, headers, _ = await server.answer("/v1/chat/completions", {}, BODY)
                    if status == 200:
                        return
                    await asyncio.sleep(float(headers["retry-after"]))

        await asyncio.gather(*(complete() for _ in range(requests)))
        return asyncio.get_running_loop().time()

    return result_of(server, requests, run_in_virtual_time(run()))


def result_of(server: SimulatedServer, requests: int, seconds: float) -> Result:
    return Result(requests / seconds, server.busy_seconds / seconds, server.counts["refuse"] / requests)


def main(rounds: Annotated[int, typer.Option(min=10, help="Completions for each slot of the server.")] = 60) -> None:
    """Print one line for each server."""
    print("| server | best fixed concurrency | completions/s | engine: completions/s | ratio | running | refused |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for limit in (4, 16, 64, 128):
        for refuses in (True, False):
            limits = {"max_in_flight": limit} if refuses else {"slowdown_from": limit}
            behavior = Behavior(seconds=SECONDS, spread=SPREAD, **limits)  # type: ignore[arg-type]
            requests = limit * rounds
            fixed = {round(limit * each): with_fixed(behavior, requests, round(limit * each)) for each in FRACTIONS}
            best = max(fixed, key=lambda concurrency: fixed[concurrency].per_second)
            engine = with_engine(behavior, requests, 256 if refuses else 2 * limit)
            ratio = engine.per_second / fixed[best].per_second
            print(
                f"| {'refuses' if refuses else 'queues'} beyond {limit} | {best} | {fixed[best].per_second:.2f}"
                f" | {engine.per_second:.2f} | {ratio:.2f} | {engine.running:.1f} | {engine.refused:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
