"""The result of a benchmark as Markdown and JSON, and its cost."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.benchmark.results import SplitResult, split_result
from corpus_reranker.benchmark.tables import BenchmarkResult, to_document, to_markdown
from corpus_reranker.config.loader import load_config
from corpus_reranker.evaluation.comparison import evaluate
from corpus_reranker.evaluation.rankings import QueryOrders
from corpus_reranker.evaluation.settings import EvaluateConfig
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

QRELS = {"1": {"d1": 1}, "2": {"d0": 1}}
ENGINES = {
    "gpus": ["--engine.kind=vllm", "--engine.model=m", "--engine.tensor_parallel_size=2", "--cluster.replicas=3"],
    "none": ["--engine.kind=scripted"],
}


def result_of(
    folder: Path,
    split: str = "2020",
    engine: str = "none",
    price: str = "null",
    billed: float | None = None,
    pre_ranker: bool = False,
) -> SplitResult:
    """A split of two queries; the reranker moves d1 to the top of both."""
    window = {"start": 0, "end": 2, "status": "complete", "attempts": 2, "prompt_tokens": 5, "output_tokens": 3}
    rows = [
        output_row(query, [1, 0], windows=[window], started_at=1_000_000, finished_at=37_000_000) for query in QRELS
    ]
    schema = SCHEMA.with_metadata(
        {"reranker.version": "9", "reranker.model": "m", "reranker.engine": "vllm", "reranker.run_id": "r"}
    )
    output = write_data_files(folder / split / engine, [rows], schema)
    between = {"pre-ranker": ["d1", "d0"]} if pre_ranker else {}
    queries = [QueryOrders(query, {"before": ["d0", "d1"], **between, "after": ["d1", "d0"]}) for query in QRELS]
    evaluation = evaluate({"x": queries}, QRELS, EvaluateConfig(qrels="q", measures=("RR", "nDCG@10"), resamples=100))
    paths = ["--input.path=in", f"--output.path={output}", f"--report.price_per_gpu_hour={price}"]
    config = load_config(None, [*ENGINES[engine], *paths])
    passes = [{"engine": {"engine": "vllm", "engine_version": "0.33", "device_name": "H100"}}, {"engine": {}}]
    manifest = {
        "queries_by_status": {"complete": 2},
        "prompt_tokens": 2_000_000,
        "output_tokens": 1_000_000,
        "info": {"passes": passes, "spend": None if billed is None else {"cost": billed}},
    }
    return split_result(split, "run.txt", config, manifest, evaluation)


def benchmark_of(*splits: SplitResult, **changes: Any) -> BenchmarkResult:
    return dataclasses.replace(BenchmarkResult("TREC DL", "m", splits, 2, None, "USD"), **changes)


@pytest.mark.parametrize(
    ("engine", "price", "billed", "expected"),
    [
        ("gpus", "50", None, 6 * 36 / 3600 * 50),
        ("gpus", "null", None, None),
        ("none", "50", 12.5, 12.5),
        ("none", "null", None, None),
    ],
)
def test_the_price_is_that_of_the_endpoint_or_of_the_gpus(
    tmp_path: Path, engine: str, price: str, billed: float | None, expected: float | None
) -> None:
    """An endpoint's bill counts, else GPUs for the time in which queries were in flight."""
    cost = result_of(tmp_path, engine=engine, price=price, billed=billed).cost
    assert (cost.calls, cost.prompt_tokens, cost.output_tokens) == (4, 2_000_000, 1_000_000)
    assert cost.engine_seconds == pytest.approx(36)
    assert cost.price == (None if expected is None else pytest.approx(expected))


def test_the_figures_are_those_of_the_evaluation(tmp_path: Path) -> None:
    result = result_of(tmp_path)
    assert (result.judged_queries, result.first_stage, result.simulated) == (2, "run.txt", True)
    lower = (1 + 0.6309297535714575) / 2
    assert [each.mean for each in result.means.values()] == pytest.approx([lower, lower])  # one up, one down
    assert (result.gain.baseline, result.gain.system, result.gain.wins, result.gain.losses) == (
        "x before",
        "x after",
        1,
        1,
    )
    assert result.versions == {
        "version": "9",
        "engine": "vllm",
        "model": "m",
        "engine_info": {"engine": "vllm", "engine_version": "0.33", "device_name": "H100"},
    }


def test_a_pre_ranker_has_a_column(tmp_path: Path) -> None:
    """The gain is still that over the first stage."""
    result = result_of(tmp_path, pre_ranker=True)
    assert list(result.means) == ["before", "pre-ranker", "after"]
    assert result.gain.baseline == "x before"
    assert "| before | pre-ranker | after | after - before |" in to_markdown(benchmark_of(result))


def test_markdown_shows_published_figures_of_the_splits_that_ran(tmp_path: Path) -> None:
    result, other = result_of(tmp_path), result_of(tmp_path, "2019")
    page = to_markdown(benchmark_of(result))
    assert "# TREC DL: m\n" in page
    assert "| 2020 | 2 | run.txt | 0.8155 [" in page
    assert "| **m** | 2020 | run.txt | 81.5 | 81.5 | this run |" in page
    assert "| **m** | mean of 1 of 2 splits | run.txt | 81.5 | 81.5 | this run |" in page
    assert "| RankZephyr 7B | 2020 | BM25 |  | 70.9 | [arXiv 2312.02724](https://arxiv.org/abs/2312.02724) |" in page
    assert "| ERank 4B | mean of splits | not named | 49.3 | 68.9 |" in page
    assert "Flan-T5" not in page  # a figure of 2019
    assert "- 2020: corpus-reranker 9, engine vllm 0.33 H100, model m\n" in page
    assert "SIMULATED" in page
    both = to_markdown(benchmark_of(result, other))
    assert "| mean of 2 splits |  |  | 0.8155 | 0.8155 | +0.0000 |  |" in both
    assert "Flan-T5" in both


def test_markdown_of_a_limited_run_and_of_a_benchmark_without_published_figures(tmp_path: Path) -> None:
    page = to_markdown(benchmark_of(result_of(tmp_path), title="mine", limit=2))
    assert "Only the first 2 queries of each split: not comparable with published figures." in page
    assert "Published figures" not in page


def test_json_has_the_splits_their_mean_and_the_published_figures(tmp_path: Path) -> None:
    document = json.loads(json.dumps(to_document(benchmark_of(result_of(tmp_path), result_of(tmp_path, "2019")))))
    assert [each["split"] for each in document["splits"]] == ["2020", "2019"]
    assert document["mean_of_splits"] == pytest.approx({"before": 0.815464876785, "after": 0.815464876785})
    assert {each["benchmark"] for each in document["published_percent"]} == {"TREC DL"}
