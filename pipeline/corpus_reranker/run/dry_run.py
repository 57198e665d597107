"""Dry run: the plan of a run and its first prompt, without starting anything."""

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import max_windows_in_flight
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.errors import InputError
from corpus_reranker.io.isolation import run_in_subprocess
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.rows import check_batch, parse_row
from corpus_reranker.types import RerankRequest


def describe_plan(config: JobConfig, limit: int | None = None) -> str:
    """Describe the plan as text.

    Raises:
        ConfigError: The config cannot work.
        InputError: The input cannot be read.
    """
    source = run_in_subprocess(open_source, config.input, config.storage)
    request = _first_request(config, source)
    ranked = config.num_ranked(len(request.candidates))
    prompt = create_prompt_builder(config)(request)(range(min(config.strategy.max_window, ranked)))
    cluster, strategy = config.cluster, config.strategy
    lines = [
        f"input: {config.input.path}: {source.describe()}"
        + (f", of which the first {limit:,} queries" if limit else ""),
        f"output: {config.output.path}",
        *_pre_ranker_lines(config),
        f"strategy: {strategy}",
        f"a query with {len(request.candidates)} candidates: at most {strategy.max_windows(ranked)}"
        f" windows, up to {config.policy.max_attempts} attempts each",
        f"replicas: {cluster.replicas or f'{cluster.min_replica_count} to {cluster.max_replica_count}'}"
        f" of {config.engine.kind} with {config.engine.gpus_per_replica} GPUs, up to"
        f" {max_windows_in_flight(config)} windows in flight each",
        f"fingerprint: {config.fingerprint()}",
        f"first prompt ({len(prompt.token_ids):,} tokens of {config.engine.max_model_len:,}, up to"
        f" {config.generation.max_tokens:,} for the answer):",
        "",
        prompt.text,
    ]
    return "\n".join(lines)


def _pre_ranker_lines(config: JobConfig) -> list[str]:
    if config.pre_ranker is None:
        return []
    return [f"pre-ranker: {config.pre_ranker.engine.model} keeps {config.pre_ranker.keep} candidates of a query"]


def _first_request(config: JobConfig, source: Source) -> RerankRequest:
    """Raises InputError if the input is empty, RowError if its first query cannot be read."""
    table = next((table for table in source.tables() if table.num_rows), None)
    if table is None:
        raise InputError(f"{config.input.path} has no rows")
    return parse_row(check_batch(table.slice(0, 1), config.input).to_pylist()[0])
