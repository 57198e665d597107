"""Our job against what its engine can do, and against the two others who rerank with ReasonRank, in one run.

    python tests/benchmarks/peers.py [--four-gpus] [--speedup 40] [--rank-llm SRC --rank-llm DEPENDENCIES]

Simulated engine, ReasonRank-like lengths, one replica; the same queries, so the same prompts, for all. The engine is
one GPU's, or with `--four-gpus` as large as the one of run_rank_llm.sh. Windows/s are over the engine's simulated time
from its first request to its last completion: its start is not counted; whatever Ray and the chains of windows cost in
between is, `speedup` times.
- Saturation: every prompt of the job given to the engine at once, by hand. Nothing can be faster.
- The lockstep of the authors' script (sliding_windows_batched of rerank/rankllm.py): batches of 512 queries, each
  window of all of them at once, the next when the last of them has answered. Three times: the engine's time alone;
  with the time that the script takes to make a batch's prompts, in which its engine has nothing to do; and as
  run_rank_llm.sh has it, one dataset after the other, none of which fills a batch.
- RankLLM's asynchronous scheduler (_sliding_windows_batched_async), if its sources are there: `--rank-llm` adds a
  folder to the import path (castorini/rank_llm's `src`, and one that holds dacite). It is given our prompts and our
  engine; its own prompts, passages cut by words, are left out. Its batch_size is the number of windows in flight: 32
  by default, and what our job keeps in flight.
"""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from workload import REASONRANK_LENGTHS, ask_at_once, job, record_prompts, report, request, run_job, write_candidates

from corpus_reranker.answers.permutation import apply_permutation
from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.engines.base import Engine
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.ranking.windows import sliding_windows
from corpus_reranker.types import Completion, RerankRequest

Schedule = Callable[[JobConfig, Engine, Sequence[RerankRequest]], Coroutine[Any, Any, None]]

PARSER = ReasoningParser()
BATCH = 512
"""Of the authors' script: --batch_size 512 in run_rank_llm.sh."""

BRIGHT = (103, 116, 103, 101, 101, 117, 108, 142, 112, 111, 194, 76)
R2MED = (103, 77, 88, 97, 118, 150, 114, 129)
"""Queries of the datasets in run_rank_llm.sh (the papers' statistics: 1,384 in arXiv 2407.12883, 876 in 2505.14558)."""

PROMPT_SECONDS = 0.0175
"""Of a window in the authors' script, by the clock: 22.3 ms for prompts of 7,238 tokens, so this for 5,690. Their
create_prompt_batched with its threads and Qwen2.5's tokenizer, driven on the two cores that the other figures in
docs/throughput.md are from. vLLM's own tokenising is not in it: its engine begins with the first prompt of a batch."""

FOUR_GPUS = (
    "--engine.max_num_seqs=1024",
    "--engine.kv_cache_tokens=4617000",
    "--engine.prefill_tokens_per_second=96000",
    "--engine.step_seconds=0.001875",
    "--engine.step_seconds_per_sequence=0.00004375",
)
"""One engine over the `--num_gpus 4` of run_rank_llm.sh, tensor parallel. From the costs of one GPU
(SimulatedSettings): (4 x (0.9 x 80 GB - 2 GB) - 15.2 GB) / 57,344 bytes of KV cache, and 3.2 times the speed: it is
assumed that the GPUs' exchange takes a fifth. max_num_seqs is vLLM 0.32's own for LLM() on a GPU of 70 GB or more."""


async def lockstep(
    config: JobConfig,
    engine: Engine,
    queries: Sequence[RerankRequest],
    prompt_seconds: float = 0.0,
    datasets: Sequence[int] = (),
) -> None:
    """Batch by batch, window by window. `prompt_seconds` are of the engine's time."""
    params, prompt_builder = config.generation.sampling_params(PARSER), create_prompt_builder(config)
    for batch in batches(queries, datasets or [len(queries)]):
        renders = [prompt_builder(query) for query in batch]
        orders = [list(range(len(query.candidates))) for query in batch]
        for start, end in sliding_windows(100, 20, 10):
            await asyncio.sleep(prompt_seconds * len(batch) / config.engine.model_dump()["speedup"])
            prompts = [render(order[start:end]) for render, order in zip(renders, orders, strict=True)]
            completions = await asyncio.gather(*(engine.generate(prompt, params) for prompt in prompts))
            for order, completion in zip(orders, completions, strict=True):
                order[start:end] = apply_permutation(order[start:end], PARSER.parse(completion, end - start).order)


def batches(queries: Sequence[RerankRequest], datasets: Sequence[int]) -> Iterator[Sequence[RerankRequest]]:
    """Of each dataset's queries, which follow one another."""
    for begin, end in itertools.pairwise(itertools.accumulate(datasets, initial=0)):
        for first in range(begin, min(end, len(queries)), BATCH):
            yield queries[first : min(first + BATCH, end)]


def rank_llm(batch_size: int) -> Schedule:
    """RankLLM's scheduler. Raises ImportError where it isn't installed."""
    from rank_llm.data import Candidate as TheirCandidate
    from rank_llm.data import Query, Request
    from rank_llm.rerank.listwise.listwise_rankllm import ListwiseRankLLM

    class Driven(ListwiseRankLLM):  # type: ignore[misc]
        """The scheduler alone: prompts and completions are ours."""

        def __init__(self, config: JobConfig, engine: Engine, queries: Sequence[RerankRequest]) -> None:
            self._stride, self._window_size, self._batch_size = 10, 20, batch_size
            self._llm_concurrency_sem = None
            self._engine, self._params = engine, config.generation.sampling_params(PARSER)
            prompt_builder = create_prompt_builder(config)
            self._renders = {query.query_id: prompt_builder(query) for query in queries}

        def create_prompt(self, result: Any, rank_start: int, rank_end: int) -> Any:
            indices = [candidate.docid for candidate in result.candidates[rank_start:rank_end]]
            prompt = self._renders[result.query.qid](indices)
            return prompt, len(prompt.token_ids)

        async def run_llm_async(self, prompt: Any, current_window_size: int | None = None) -> Any:
            completion = await self._engine.generate(prompt, self._params)
            return completion.text, "", {"completion_tokens": completion.output_tokens}

        def receive_permutation(self, result: Any, permutation: str, start: int, end: int, logging: bool) -> Any:
            order = PARSER.parse(Completion(permutation, "stop", 0, 0), end - start).order
            result.candidates[start:end] = apply_permutation(result.candidates[start:end], order)
            return result

    Driven.__abstractmethods__ = frozenset()

    async def schedule(config: JobConfig, engine: Engine, queries: Sequence[RerankRequest]) -> None:
        requests = [
            Request(
                Query(query.query, query.query_id),
                [TheirCandidate(index, c.score, {"text": c.text}) for index, c in enumerate(query.candidates)],
            )
            for query in queries
        ]
        await Driven(config, engine, queries).rerank_batch_async(requests, top_k_retrieve=100)

    return schedule


async def at_once(config: JobConfig, queries: Sequence[RerankRequest]) -> dict[str, Any]:
    return await ask_at_once(config, await record_prompts(config, queries))


def drive(way: str, schedule: Schedule, config: JobConfig, queries: Sequence[RerankRequest]) -> dict[str, Any]:
    """Figures of one way to schedule, on an engine of its own."""

    async def run() -> dict[str, Any]:
        engine = create_engine(config.engine)
        await engine.start()
        began = time.perf_counter()
        await schedule(config, engine, queries)
        info = {**engine.info(), "seconds": time.perf_counter() - began}
        await engine.stop()
        return info

    return figures(way, asyncio.run(run()))


def in_flight_fraction(samples: list[list[float]]) -> float:
    """Mean of windows in flight / wanted over the middle 80% of the run's time."""
    begin, end = samples[0][0], samples[-1][0]
    tenth = (end - begin) / 10
    middle = [now / wanted for seconds, now, wanted in samples if begin + tenth <= seconds <= end - tenth and wanted]
    return sum(middle) / len(middle)


def figures(way: str, info: dict[str, Any], in_flight_of_wanted: float = float("nan")) -> dict[str, Any]:
    """Windows/s over simulated time, which is also the time to the last query."""
    return {
        "way": way,
        "windows": info["requests"],
        "seconds_to_last_query": info["simulated_seconds"],
        "windows_per_second": info["requests"] / info["simulated_seconds"],
        "mean_running": info["mean_running"],
        "in_flight_of_wanted": in_flight_of_wanted,
    }


def main(
    queries: Annotated[int, typer.Option(help="100 candidates each, 9 windows.")] = sum(BRIGHT + R2MED),
    four_gpus: Annotated[bool, typer.Option("--four-gpus", help="One engine over four GPUs.")] = False,
    speedup: Annotated[float, typer.Option(help="Simulated seconds a second.")] = 40.0,
    rank_llm_path: Annotated[list[str], typer.Option("--rank-llm", help="Folders for the import path.")] = [],  # noqa: B006
) -> None:
    """Print windows/s of each, and the ratio to the job's."""
    sys.path += rank_llm_path
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_candidates(folder / "in", queries, 100)
        made = [request(number, 100) for number in range(queries)]
        config = job(
            folder,
            REASONRANK_LENGTHS,
            f"--engine.speedup={speedup}",
            *(FOUR_GPUS if four_gpus else ()),
            "--cluster={replicas: 1, progress_seconds: 5}",
        )
        info = run_job(config)["info"]["passes"][0]
        ray.shutdown()
        rows = [
            figures("our job", info["engine"], in_flight_fraction(info["in_flight"])),
            figures("all prompts at once, by hand", asyncio.run(at_once(config, made))),
            drive("lockstep of 512", lockstep, config, made),
            drive("lockstep, with its prompts", partial(lockstep, prompt_seconds=PROMPT_SECONDS), config, made),
            drive(
                "lockstep, with its prompts, dataset by dataset",
                partial(lockstep, prompt_seconds=PROMPT_SECONDS, datasets=BRIGHT + R2MED),
                config,
                made,
            ),
        ]
        in_flight = round(info["engine"]["mean_running"] + info["engine"]["mean_waiting"])
        try:
            for size in (32, in_flight):
                rows.append(drive(f"RankLLM async, {size} in flight", rank_llm(size), config, made))
        except ImportError as error:
            print(f"RankLLM is left out: {error}")
    for row in rows:
        row["ours_to_this"] = rows[0]["windows_per_second"] / row["windows_per_second"]
    gpus = "four GPUs" if four_gpus else "one GPU"
    report(
        "peers_four_gpus" if four_gpus else "peers",
        rows,
        f"simulated engine of {gpus}, one replica, {queries} queries, speedup {speedup:g}",
    )


if __name__ == "__main__":
    typer.run(main)
