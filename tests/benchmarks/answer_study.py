"""Cost and benefit of each policy for windows without a ranking.

    python tests/benchmarks/answer_study.py [--recorded FILE] [--model FOLDER]
    python tests/benchmarks/answer_study.py --dl20 LISTS --responses FILE [--model FOLDER]

Counts the outcomes of recorded responses, then reranks the demo collection with SmolLM2-135M in vLLM on the CPU under
each policy. Prints the tables of docs/answers.md; takes about five minutes on 2 cores. With --dl20, reranks the best 20
candidates of each query of TREC DL 2020 instead, and records the responses for answer_rules.py.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from corpus_reranker.answers.plain import PlainParser
from corpus_reranker.cli.demo import write_candidates
from corpus_reranker.cli.demo_model import convert_demo_model
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.io.sources.rows import parse_row
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.types import ANSWERED, Candidate, Completion, RerankRequest, RerankResult

POLICIES = {
    "keep order": RetryPolicy(max_attempts=1),
    "force": RetryPolicy(max_attempts=1, force_answer=True),
    "retry once": RetryPolicy(max_attempts=2),
    "retry once, then force": RetryPolicy(max_attempts=2, force_answer=True),
}


def recorded_outcomes(path: Path) -> Counter[str]:
    """Window statuses of recorded responses: a JSONL file with `response` and `num_passages`."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parser = PlainParser()
    return Counter(
        parser.parse(Completion(line["response"], "stop", 0, 0), line["num_passages"]).status for line in lines
    )


async def measure(config: JobConfig, requests: Sequence[RerankRequest]) -> None:
    """Rerank all requests under each policy with one engine, and print a table row for each policy."""
    engine, prompt_builder = create_engine(config.engine), create_prompt_builder(config)
    await engine.start()

    async def rank(request: RerankRequest, policy: RetryPolicy) -> RerankResult:
        return await rerank_query(
            request,
            engine.generate,
            strategy=config.strategy,
            prompt_builder=prompt_builder,
            parser=prompt_builder.parser,
            sampling=config.generation.sampling_params(prompt_builder.parser),
            policy=policy,
            encode=prompt_builder.tokenizer.encode,
        )

    print("| policy | windows | complete | repaired | without a ranking | requests | output tokens |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, policy in POLICIES.items():
        results = await asyncio.gather(*(rank(request, policy) for request in requests))
        windows = [window for result in results for window in result.windows]
        statuses = Counter(window.status for window in windows)
        unanswered = sum(count for status, count in statuses.items() if status not in ANSWERED)
        print(
            f"| {name} | {len(windows)} | {statuses['complete']} | {statuses['repaired']} | {unanswered} |"
            f" {sum(window.attempts for window in windows)} | {sum(window.output_tokens for window in windows):,} |"
        )
    await engine.stop()


async def record(config: JobConfig, requests: Sequence[RerankRequest], path: Path) -> None:
    """Rerank all requests, and write each window's size and response to a JSONL file."""
    engine, prompt_builder = create_engine(config.engine), create_prompt_builder(config)
    await engine.start()
    with path.open("w", encoding="utf-8") as file:

        async def rank(request: RerankRequest) -> None:
            result = await rerank_query(
                request,
                engine.generate,
                strategy=config.strategy,
                prompt_builder=prompt_builder,
                parser=prompt_builder.parser,
                sampling=config.generation.sampling_params(prompt_builder.parser),
                policy=POLICIES["keep order"],
                encode=prompt_builder.tokenizer.encode,
            )
            for window in result.windows:
                line = {"num_passages": window.end - window.start, "response": window.response}
                file.write(f"{json.dumps(line)}\n")

        await asyncio.gather(*map(rank, requests))
    await engine.stop()


def read_dl20(path: Path) -> list[RerankRequest]:
    """The queries of a file of ReasonRank's retrieval results."""
    return [
        RerankRequest(
            str(each["hits"][0]["qid"]),
            each["query"],
            tuple(Candidate(str(hit["docid"]), hit["content"], hit["score"]) for hit in each["hits"]),
        )
        for each in json.loads(path.read_text(encoding="utf-8"))
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--recorded", type=Path)
    arguments.add_argument("--model", type=Path)
    arguments.add_argument("--dl20", type=Path, help="Lists of TREC DL 2020: retrieve_results_dl20_bm25_top100.json.")
    arguments.add_argument("--responses", type=Path, default=Path("out/dl20-responses.jsonl"))
    options = arguments.parse_args()
    if options.recorded:
        outcomes = recorded_outcomes(options.recorded)
        print(", ".join(f"{status}: {count:,}" for status, count in outcomes.most_common()))
    model = options.model or convert_demo_model(Path(".cache"))
    if options.dl20:
        config = study_config(model, "--strategy={name: single_window, window: 20}")
        asyncio.run(record(config, read_dl20(options.dl20), options.responses))
        return
    with TemporaryDirectory() as folder:
        write_candidates(Path(folder))
        rows = pq.read_table(folder).to_pylist()
    config = study_config(model, "--strategy={name: sliding_window, window: 10, stride: 5, depth: 20}")
    asyncio.run(measure(config, [parse_row(row) for row in rows]))


def study_config(model: Path, strategy: str) -> JobConfig:
    return load_config(
        CONFIGS_DIRECTORY / "demo" / "demo.yaml",
        [f"--engine.model={model.resolve()}", strategy, "--prompt.max_passage_tokens=24"],
    )


if __name__ == "__main__":
    main()
