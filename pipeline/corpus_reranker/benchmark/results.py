"""The result of one split: nDCG@10 before and after, and the cost and versions of its run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.evaluation.comparison import Comparison, Evaluation, Mean
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.report.run_data import read_run_data
from corpus_reranker.run.passes import max_gpus

MEASURE = "nDCG@10"


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a split's run.

    Attributes:
        calls: Requests to the LLM, repeated ones included.
        prompt_tokens: Prompt tokens of the windows.
        output_tokens: Output tokens of the windows.
        engine_seconds: Time in which queries were in flight, without the start of the engine.
        price: What an endpoint billed, else the price of the GPUs during `engine_seconds`; None: unknown.
    """

    calls: int
    prompt_tokens: int
    output_tokens: int
    engine_seconds: float
    price: float | None


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Result of one split.

    Attributes:
        split: Name of the split.
        first_stage: Name of the first-stage run.
        judged_queries: Number of queries in the means.
        statuses: Number of queries by status.
        means: nDCG@10 by stage: `before`, `pre-ranker` if there is one, `after`.
        gain: `after` minus `before`.
        cost: Cost of the run.
        versions: Versions of the program and the engine, model, and fingerprint of the reranker.
        simulated: Whether the engine was scripted or simulated.
    """

    split: str
    first_stage: str
    judged_queries: int
    statuses: Mapping[str, int]
    means: Mapping[str, Mean]
    gain: Comparison
    cost: Cost
    versions: Mapping[str, Any]
    simulated: bool


def split_result(
    split: str, first_stage: str, config: JobConfig, manifest: Mapping[str, Any], evaluation: Evaluation
) -> SplitResult:
    """Collect the result of a split whose run has finished.

    Args:
        split: Name of the split.
        first_stage: Name of the first-stage run.
        config: The job of the split.
        manifest: Manifest of its output.
        evaluation: Evaluation of its output alone.

    Raises:
        InputError: The output cannot be read.
    """
    means = {
        mean.system.rpartition(" ")[2]: mean
        for mean in evaluation.means
        if mean.measure == MEASURE and mean.dataset is None
    }
    names = (means["after"].system, means["before"].system)
    gain = next(
        each for each in evaluation.comparisons if (each.measure, each.system, each.baseline) == (MEASURE, *names)
    )
    data = read_run_data(*resolve(config.output.path, config.storage), config.report)
    return SplitResult(
        split=split,
        first_stage=first_stage,
        judged_queries=means["after"].queries,
        statuses=manifest["queries_by_status"],
        means=means,
        gain=gain,
        cost=_cost(config, manifest, data.attempts, data.busy_seconds),
        versions=_versions(data.metadata, manifest),
        simulated=config.simulated,
    )


def _versions(metadata: Mapping[str, str], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The data files' metadata that identifies the reranker, and the info of the engine as `engine_info`."""
    wanted = ("version", "engine", "model", "pre_ranker_model", "template", "template_hash", "fingerprint")
    known = {name: metadata[key] for name in wanted if metadata.get(key := f"reranker.{name}")}
    passes = manifest["info"].get("passes", [])
    engine_info: Mapping[str, Any] = next((each["engine"] for each in reversed(passes) if each.get("engine")), {})
    return {**known, "engine_info": engine_info}


def _cost(config: JobConfig, manifest: Mapping[str, Any], calls: int, engine_seconds: float) -> Cost:
    billed, per_gpu_hour = manifest["info"].get("spend"), config.report.price_per_gpu_hour
    if billed is not None and not config.engine.gpus_per_replica:
        price = billed["cost"]
    else:
        price = None if per_gpu_hour is None else max_gpus(config) * engine_seconds / 3600 * per_gpu_hour
    return Cost(calls, manifest["prompt_tokens"], manifest["output_tokens"], engine_seconds, price)


def mean_of_splits(results: Sequence[SplitResult], stage: str) -> float:
    """The mean of nDCG@10 over the splits, each with the same weight, as BRIGHT and BEIR report it."""
    return sum(result.means[stage].mean for result in results) / len(results)
