"""The command `estimate` predicts what the run then does."""

import asyncio
import datetime
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.io.schemas import LONG_INPUT, NESTED_INPUT
from corpus_reranker.io.sources.rows import parse_row
from corpus_reranker.ranking.rerank_query import rerank_query
from helpers.command_line import check_refused, run_command
from helpers.synthetic_output import output_row, write_data_files

WINDOW = {"start": 0, "end": 2, "status": "complete", "attempts": 1, "prompt_tokens": 9, "latency_seconds": 3.0}


def rows(*numbers_of_candidates: int) -> list[dict[str, Any]]:
    """One query per number. Passage lengths differ between queries and within a query."""
    return [
        {
            "query_id": f"q{query}",
            "query": f"what is {query}",
            "candidates": [
                {
                    "doc_id": f"d{position}",
                    "text": f"word{position} " * (1 + query + position % 7),
                    "score": 100.0 - position,
                }
                for position in range(number)
            ],
        }
        for query, number in enumerate(numbers_of_candidates)
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The scripted engine, windows of 10 with stride 5 over the top 30, prompts counted in words."""
    path = tmp_path / "job.yaml"
    path.write_text(
        f"""
input: {{path: {tmp_path / "in"}, max_candidates: 40}}
output: {{path: {tmp_path / "out"}}}
engine: {{kind: scripted, max_model_len: 4096}}
strategy: {{window: 10, stride: 5, depth: 30}}
prompt: {{template: rankgpt, max_passage_tokens: 20}}
generation: {{max_reasoning_tokens: 0, max_answer_tokens: 60}}
cluster: {{min_replicas: 1, max_replicas: 4, queries_in_flight: 8}}
report: {{price_per_gpu_hour: 2.0, currency: EUR}}
"""
    )
    return path


def write_input(folder: Path, content: list[dict[str, Any]], schema: pa.Schema = NESTED_INPUT) -> None:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(content, schema), folder / "a.parquet")


def estimate(config: Path, *arguments: str) -> dict[str, Any]:
    """What the command prints with --json."""
    result = run_command("estimate", "--config", str(config), "--json", *arguments)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def printed(config: Path, *arguments: str) -> str:
    """What the command prints for a person."""
    result = run_command("estimate", "--config", str(config), *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_windows_and_prompt_tokens_are_those_of_the_run(config: Path, tmp_path: Path) -> None:
    content = rows(30, 12, 7, 2, 1, 30, 35)
    write_input(tmp_path / "in", content)
    settings = load_config(config)
    prompt_builder = create_prompt_builder(settings)
    requested: Counter[str] = Counter()

    async def rank_windows() -> None:
        engine = create_engine(settings.engine)
        await engine.start()
        for row in content:
            request = parse_row(row)
            result = await rerank_query(
                request,
                engine.generate,
                strategy=settings.strategy,
                prompt_builder=prompt_builder,
                parser=prompt_builder.parser,
                sampling=settings.generation.sampling_params(prompt_builder.parser),
                policy=settings.policy,
            )
            requested.update(windows=len(result.windows), tokens=sum(window.prompt_tokens for window in result.windows))

    asyncio.run(rank_windows())
    work = estimate(config, "--sample-queries", "0")["work"]
    assert (work["queries"], work["candidates"], work["most_candidates"]) == (7, 117, 35)
    assert work["windows"] == requested["windows"]
    assert work["prompt_tokens_mean"] * work["windows"] == pytest.approx(requested["tokens"])
    assert work["chain_windows"] == 5  # [20, 30), [15, 25), ..., [0, 10)


def test_a_budget_limits_the_windows(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*[30] * 4))
    for budget, windows in ((12, 12), (30, 20)):
        assert estimate(config, ACTIVE, f"--budget.windows={budget}")["work"]["windows"] == windows


ACTIVE = "--strategy={name: active, window: 10, depth: 30, max_calls: 5}"


def sample_with_stability(folder: Path) -> Path:
    """The output of two queries with five windows each, by the strategy ACTIVE."""
    start = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    window = {"start": 0, "end": 10, "status": "complete", "attempts": 1, "prompt_tokens": 9, "output_tokens": 30}
    windows = [{**window, "latency_seconds": 3.0, "stability": 0.5 + 0.05 * number} for number in range(5)]
    columns: dict[str, Any] = {"started_at": start, "finished_at": start + datetime.timedelta(seconds=15)}
    columns |= {"windows": windows, "stability": 0.7}
    write_data_files(folder, [[output_row(query_id, [0], **columns) for query_id in ("1", "2")]])
    strategy = "{name: active, window: 10, depth: 30, max_calls: 5}"
    (folder / "_run/config.yaml").write_text(f"strategy: {strategy}\n")
    return folder


def test_a_budget_has_a_curve_measured_on_a_sample(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*[30] * 40))
    options = (ACTIVE, "--budget.windows=100", f"--measured={sample_with_stability(tmp_path / 'sample')}")
    found = estimate(config, *options, "--windows-per-second=0.5")
    points = found["curve"]["rows"]
    assert [row["windows"] for row in points] == [40, 80, 100, 120, 160, 200]
    assert [row["stability"] for row in points] == pytest.approx([0.5, 0.55, 0.575, 0.6, 0.65, 0.7])
    assert [row["windows"] for row in points if row["is_budget"]] == [100] == [found["work"]["windows"]]
    assert points[1]["stability_gain"] == pytest.approx(0.05 * 1000)
    assert points[2]["tokens"] == pytest.approx(100 * (found["work"]["prompt_tokens_mean"] + 30))
    text = printed(config, *options)
    assert "budget curve, from 2 queries of" in text
    assert re.search(r"100 +2\.5 +[0-9,]+ +0\.5750 +\+50\.00 +budget", text), text
    assert "GPU-hours" not in text, "not known without a rate"
    assert "GPU-hours" in printed(config, *options, "--windows-per-second=0.5").partition("budget curve")[2]


def test_the_curve_converts_a_budget_in_another_unit(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*[30] * 40))
    options = (ACTIVE, f"--measured={sample_with_stability(tmp_path / 'sample')}")
    each = estimate(config, *options)["work"]["prompt_tokens_mean"] + 30
    found = estimate(config, *options, f"--budget.tokens={round(100 * each)}")
    (budget,) = [row for row in found["curve"]["rows"] if row["is_budget"]]
    assert (budget["windows"], budget["stability"]) == (100, pytest.approx(0.575))
    unknown = estimate(config, *options, "--budget.gpu_hours=3")["curve"]
    assert not any(row["is_budget"] for row in unknown["rows"])
    assert "budget.gpu_hours pays for are unknown; give estimate.windows_per_second" in unknown["note"]


def test_a_budget_without_a_sample_says_how_to_get_the_curve(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*[30] * 4))
    text = printed(config, ACTIVE, "--budget.windows=10")
    assert "budget curve: none; give estimate.measured" in text
    assert estimate(config, ACTIVE, "--budget.windows=10")["curve"]["rows"] == []
    assert estimate(config, ACTIVE)["curve"] is None
    assert "curve" not in printed(config, ACTIVE)
    earlier = write_data_files(tmp_path / "earlier", [[output_row("1", [0], windows=[WINDOW])]])
    assert "budget curve: none; " in printed(config, ACTIVE, "--budget.windows=10", f"--measured={earlier}")
    with_sliding_window = printed(config, "--budget.windows=10", f"--measured={earlier}")
    assert "none; strategy sliding_window cannot continue with more windows" in with_sliding_window


def test_time_and_price_follow_from_the_rates(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*[30] * 40))  # 5 windows each, in sequence
    rates = ("--windows-per-second", "2", "--price-per-gpu-hour", "9")
    found = estimate(config, *rates, "--engine.kind=simulated")
    duration = found["duration"]
    assert duration["replicas"] == 4
    assert duration["work_seconds"] == pytest.approx(40 * 5 / 2 / 4)
    # 8 windows in flight on a replica that finishes 2 per second: each takes 4 s
    assert duration["chain_seconds"] == pytest.approx(5 * 4)
    assert duration["seconds"] == duration["work_seconds"]
    assert duration["gpu_hours"] == 0  # a simulated engine uses none
    assert found["price"] == 0
    few = estimate(config, *rates, "--replicas", "40")["duration"]
    assert (few["work_seconds"], few["chain_seconds"]) == (pytest.approx(2.5), pytest.approx(2.5))


def test_an_endpoint_is_priced_by_its_tokens(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(30, 12))
    job = config.read_text().replace("kind: scripted", "kind: openai, model: m, base_urls: http://127.0.0.1:9/v1")
    config.write_text(job)
    options = ("--engine.prices={prompt: 2.0, output: 8.0}", "--output-tokens-mean=30")
    found = estimate(config, *options)
    work = found["work"]
    tokens = work["windows"] * work["prompt_tokens_mean"] * 2.0 + work["windows"] * 30 * 8.0
    assert found["endpoint_price"] == pytest.approx(tokens / 1e6, rel=1e-3)
    assert " EUR by engine.prices" in printed(config, *options)


def test_gpu_hours_count_every_gpu_of_a_replica(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*[30] * 40))
    engine = "--engine={kind: vllm, model: /none, tokenizer: words, tensor_parallel_size: 2, max_model_len: 2048}"
    options = (engine, "--windows-per-second=0.01", "--replicas=1", "--output-tokens-mean=0")
    found = estimate(config, *options)
    assert found["duration"]["gpu_hours"] == pytest.approx(2 * 200 / 0.01 / 3600)
    assert found["price"] == pytest.approx(2 * found["duration"]["gpu_hours"])
    assert "EUR per 1,000 queries" in printed(config, *options)


def test_token_rates_with_the_token_budget_as_output_length(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(30))
    rates = ("--prompt-tokens-per-second=100", "--output-tokens-per-second", "10")
    found = estimate(config, *rates)
    assert found["lengths"]["output_tokens_mean"] == 60
    assert "an upper bound" in printed(config, *rates)
    work = found["work"]
    seconds = work["windows"] * (work["prompt_tokens_mean"] / 100 + 60 / 10)
    assert found["duration"]["work_seconds"] == pytest.approx(seconds / 4)


def test_output_lengths_measured_on_an_earlier_run(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(30))
    windows = [{**WINDOW, "output_tokens": 100}, {**WINDOW, "output_tokens": 500, "attempts": 3}]
    earlier = write_data_files(tmp_path / "earlier", [[output_row("1", [0], windows=windows)]])
    lengths = estimate(config, "--measured", str(earlier))["lengths"]
    assert (lengths["output_tokens_mean"], lengths["attempts_mean"]) == (300, 2)
    assert lengths["latency_seconds_mean"] == 3.0


def test_the_sample_covers_the_whole_input(config: Path, tmp_path: Path) -> None:
    """Only the second half has long passages: a sample of the first queries would find half the tokens."""
    content = rows(*[20] * 60)
    for number, row in enumerate(content):
        words = 2 if number < 30 else 18
        row["candidates"] = [{**each, "text": "word " * words} for each in row["candidates"]]
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(content, NESTED_INPUT), folder / "a.parquet", row_group_size=10)
    every = estimate(config, "--sample-queries=0")["work"]
    some = estimate(config, "--sample-queries=18")["work"]
    assert (every["sampled_queries"], some["sampled_queries"]) == (60, 18)
    assert some["prompt_tokens_mean"] == pytest.approx(every["prompt_tokens_mean"], rel=0.01)


def test_long_form_and_unreadable_rows(config: Path, tmp_path: Path) -> None:
    content = rows(30, 12)
    long = [
        {"query_id": row["query_id"], "query": row["query"], "rank": position, **candidate}
        for row in content
        for position, candidate in enumerate(row["candidates"], 1)
    ]
    write_input(tmp_path / "in", long, LONG_INPUT)
    nested = tmp_path / "nested"
    write_input(nested, [*content, {"query_id": "blank", "query": "", "candidates": content[0]["candidates"]}])
    from_long, from_nested = estimate(config), estimate(config, f"--input.path={nested}")
    assert from_long["work"]["windows"] == from_nested["work"]["windows"] - 5
    assert from_long["work"]["prompt_tokens_mean"] == from_nested["work"]["prompt_tokens_mean"]
    assert from_nested["work"]["unreadable_queries"] == 1


def test_shortened_passages_are_reported(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(*range(20, 30)))
    found = estimate(config, "--engine.max_model_len=300")
    assert found["work"]["shortened_fraction"] > 0
    assert "passages shortened" in printed(config, "--engine.max_model_len=300")


def test_rerank_with_estimate_prints_the_same_and_starts_nothing(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(30, 30))
    rerank = ("rerank", "--config", str(config), "--estimate", "--estimate.windows_per_second=1")
    result = run_command(*rerank)
    assert (result.exit_code, result.stdout) == (0, printed(config, "--windows-per-second=1"))
    assert not (tmp_path / "out").exists()
    check_refused(run_command(*rerank, "--limit", "1"), "leave out --limit")


def test_the_json_is_also_written_to_a_file(config: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "in", rows(30))
    found = estimate(config, f"--estimate.json_path={tmp_path}/estimate.json")
    assert json.loads((tmp_path / "estimate.json").read_text()) == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--windows-per-second=1", "--prompt-tokens-per-second=1"], "estimate: give windows_per_second, or"),
        (["--prompt-tokens-per-second=1"], "estimate: give both"),
        (["--windows-per-second=0"], "estimate.windows_per_second: Input should be greater than 0"),
        (["--output-tokens-mean=1", "--measured=out"], "estimate: give output_tokens_mean or measured"),
        (["--measured=/no/such/output"], "/no/such/output"),
        (["--input.path=/no/such/input"], "/no/such/input"),
    ],
)
def test_wrong_arguments_of_estimate_are_refused(
    config: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_input(tmp_path / "in", rows(3))
    check_refused(run_command("estimate", "--config", str(config), *arguments), message)
