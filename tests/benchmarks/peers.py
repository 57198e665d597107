"""The job compared with the engine's limit and with two other schedulers for ReasonRank.

    python tests/benchmarks/peers.py [--four-gpus] [--speedup 40] [--rank-llm SRC --rank-llm DEPENDENCIES]

All schedulers use the simulated engine with the lengths of ReasonRank, one replica, and the same prompts. The engine is
that of one GPU or, with `--four-gpus`, as large as that of run_rank_llm.sh. Windows/s are over the engine's simulated
time from its first request to its last completion. Engine start is not included; the overhead of Ray and of dependent
windows is, multiplied by `speedup`.
- The engine's limit: all prompts of the job submitted at once. No scheduler can be faster.
- The lockstep of the authors' script (sliding_windows_batched of rerank/rankllm.py): batches of 512 queries; one window
  of all queries at once, and the next window after the last completion. Three rows: engine time only; with the time
  that the script needs to build the prompts of a batch, during which its engine is idle; and dataset by dataset, as in
  run_rank_llm.sh, where no dataset fills a batch.
- RankLLM's asynchronous scheduler (_sliding_windows_batched_async), if it can be imported: `--rank-llm` adds folders to
  the import path (`src` of castorini/rank_llm, and a folder with dacite). It uses our prompts and our engine, not its
  own prompts. Its batch_size is the number of windows in flight: 32 by default, and as many as the job has.
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
from workload import (
    REASONRANK_LENGTHS,
    generate_at_once,
    job,
    record_prompts,
    report,
    request,
    run_job,
    write_candidates,
)

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
"""--batch_size 512 in the authors' run_rank_llm.sh."""

BRIGHT = (103, 116, 103, 101, 101, 117, 108, 142, 112, 111, 194, 76)
R2MED = (103, 77, 88, 97, 118, 150, 114, 129)
"""Number of queries of each dataset in run_rank_llm.sh (arXiv 2407.12883: 1,384; arXiv 2505.14558: 876)."""

PROMPT_SECONDS = 0.0175
"""Wall time of the authors' create_prompt_batched for one window, with its threads and Qwen2.5's tokenizer, on the two
cores of docs/throughput.md: 22.3 ms measured for 7,238 tokens, scaled to 5,690. vLLM's own tokenization is not
included: its engine begins with the first prompt of a batch."""

FOUR_GPUS = (
    "--engine.max_num_seqs=1024",
    "--engine.kv_cache_tokens=4617000",
    "--engine.prefill_tokens_per_second=96000",
    "--engine.step_seconds=0.001875",
    "--engine.step_seconds_per_sequence=0.00004375",
)
"""One tensor-parallel engine over the `--num_gpus 4` of run_rank_llm.sh, derived from the costs of one GPU
(SimulatedSettings): (4 x (0.9 x 80 GB - 2 GB) - 15.2 GB) / 57,344 bytes of KV cache, and 3.2 times the speed, which
assumes that communication takes a fifth. max_num_seqs is vLLM 0.32's default for LLM() on a GPU of 70 GB or more."""


async def lockstep(
    config: JobConfig,
    engine: Engine,
    queries: Sequence[RerankRequest],
    prompt_seconds: float = 0.0,
    datasets: Sequence[int] = (),
) -> None:
    """Rerank batch by batch and window by window. `prompt_seconds`, per window, are simulated seconds."""
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
    """Batches of the queries of each dataset; `datasets` has their sizes, in the order of `queries`."""
    for begin, end in itertools.pairwise(itertools.accumulate(datasets, initial=0)):
        for first in range(begin, min(end, len(queries)), BATCH):
            yield queries[first : min(first + BATCH, end)]


def rank_llm(batch_size: int) -> Schedule:
    """RankLLM's scheduler. Raises ImportError if RankLLM is not installed."""
    from rank_llm.data import Candidate as RankLlmCandidate
    from rank_llm.data import Query, Request
    from rank_llm.rerank.listwise.listwise_rankllm import ListwiseRankLLM

    class SchedulerOnly(ListwiseRankLLM):  # type: ignore[misc]
        """The scheduler of RankLLM with our prompts and our engine."""

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

    SchedulerOnly.__abstractmethods__ = frozenset()

    async def schedule(config: JobConfig, engine: Engine, queries: Sequence[RerankRequest]) -> None:
        requests = [
            Request(
                Query(query.query, query.query_id),
                [RankLlmCandidate(index, c.score, {"text": c.text}) for index, c in enumerate(query.candidates)],
            )
            for query in queries
        ]
        await SchedulerOnly(config, engine, queries).rerank_batch_async(requests, top_k_retrieve=100)

    return schedule


async def engine_limit(config: JobConfig, queries: Sequence[RerankRequest]) -> dict[str, Any]:
    return await generate_at_once(config, await record_prompts(config, queries))


def measure(scheduler: str, schedule: Schedule, config: JobConfig, queries: Sequence[RerankRequest]) -> dict[str, Any]:
    """Figures of one scheduler with its own engine."""

    async def run() -> dict[str, Any]:
        engine = create_engine(config.engine)
        await engine.start()
        started = time.perf_counter()
        await schedule(config, engine, queries)
        info = {**engine.info(), "seconds": time.perf_counter() - started}
        await engine.stop()
        return info

    return figures(scheduler, asyncio.run(run()))


def in_flight_fraction(samples: list[list[float]]) -> float:
    """Mean of windows in flight / target over the middle 80% of the run's time."""
    begin, end = samples[0][0], samples[-1][0]
    tenth = (end - begin) / 10
    middle = [
        in_flight / target
        for seconds, in_flight, target in samples
        if begin + tenth <= seconds <= end - tenth and target
    ]
    return sum(middle) / len(middle)


def figures(scheduler: str, info: dict[str, Any], in_flight_of_target: float = float("nan")) -> dict[str, Any]:
    """Figures in simulated time."""
    return {
        "scheduler": scheduler,
        "windows": info["requests"],
        "seconds_to_last_query": info["simulated_seconds"],
        "windows_per_second": info["requests"] / info["simulated_seconds"],
        "mean_running": info["mean_running"],
        "in_flight_of_target": in_flight_of_target,
    }


def main(
    queries: Annotated[int, typer.Option(help="Number of queries of 100 candidates, which is 9 windows each.")] = sum(
        BRIGHT + R2MED
    ),
    four_gpus: Annotated[bool, typer.Option("--four-gpus", help="One engine over four GPUs.")] = False,
    speedup: Annotated[float, typer.Option(help="Simulated seconds per second.")] = 40.0,
    rank_llm_path: Annotated[list[str], typer.Option("--rank-llm", help="Folders for the import path.")] = [],  # noqa: B006
) -> None:
    """Print windows/s of each scheduler, and how much faster the job is."""
    sys.path += rank_llm_path
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_candidates(folder / "in", queries, 100)
        requests = [request(number, 100) for number in range(queries)]
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
            figures("the job", info["engine"], in_flight_fraction(info["in_flight"])),
            figures("the engine's limit: all prompts at once", asyncio.run(engine_limit(config, requests))),
            measure("lockstep of 512, engine time only", lockstep, config, requests),
            measure(
                "lockstep of 512, with its prompt building",
                partial(lockstep, prompt_seconds=PROMPT_SECONDS),
                config,
                requests,
            ),
            measure(
                "lockstep of 512, with its prompt building, dataset by dataset",
                partial(lockstep, prompt_seconds=PROMPT_SECONDS, datasets=BRIGHT + R2MED),
                config,
                requests,
            ),
        ]
        in_flight = round(info["engine"]["mean_running"] + info["engine"]["mean_waiting"])
        try:
            for size, label in ((in_flight, "as many in flight as the job"), (32, "its default of 32 in flight")):
                rows.append(measure(f"RankLLM's asynchronous scheduler, {label}", rank_llm(size), config, requests))
        except ImportError as error:
            print(f"RankLLM is skipped: {error}")
    for row in rows:
        row["job_is_faster"] = rows[0]["windows_per_second"] / row["windows_per_second"]
    gpus = "four GPUs" if four_gpus else "one GPU"
    report(
        "peers_four_gpus" if four_gpus else "peers",
        rows,
        f"simulated engine of {gpus}, one replica, {queries} queries, speedup {speedup:g}",
    )


if __name__ == "__main__":
    typer.run(main)
