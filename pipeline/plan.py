"""What a run would do, told without starting anything: input, windows, replicas, and the first prompt."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import JobConfig
from pipeline.errors import InputError
from pipeline.prompting.fit import Prompter
from pipeline.prompting.tokenizer import load_tokenizer
from pipeline.records import RerankRequest
from pipeline.storage.apart import apart
from pipeline.storage.candidates import check_batch, parse_row
from pipeline.storage.inputs import Input, check_input
from pipeline.storage.nesting import nest


def make_prompter(config: JobConfig) -> Prompter:
    """The prompter of a replica, its tokenizer loaded. Raises ConfigError where they or the room do not fit."""
    return Prompter(
        config.prompt.load_template(),
        load_tokenizer(config.engine.tokenizer_source, config.engine.trust_remote_code),
        config.prompt.max_passage_tokens,
        config.engine.max_model_len - config.generation.max_tokens,
        config.prompt.load_examples(),
    )


def describe_plan(config: JobConfig, limit: int | None = None) -> str:
    """The plan as text. Raises ConfigError or InputError for what cannot work."""
    source = apart(check_input, config.input, config.storage)
    request = _first_request(config, source)
    ranked = config.num_ranked(len(request.candidates))
    prompt = make_prompter(config)(request)(range(min(config.strategy.max_window, ranked)))
    cluster, strategy = config.cluster, config.strategy
    rows = "queries" if source.form == "nested" else "candidate rows"
    lines = [
        f"input: {config.input.path}: {len(source.files)} Parquet files, {source.rows:,} {rows} ({source.form} form)"
        + (f", of which the first {limit:,} queries" if limit else ""),
        f"output: {config.output.path}",
        *_first_pass(config),
        f"strategy: {strategy}",
        f"a query with {len(request.candidates)} candidates: at most {strategy.max_windows(ranked)}"
        f" windows, up to {config.policy.max_attempts} attempts each",
        f"replicas: {cluster.replicas or f'{cluster.replicas_at_least} to {cluster.replicas_at_most}'}"
        f" of {config.engine.kind} with {config.engine.gpus_per_replica} GPUs, up to"
        f" {config.windows_in_flight_at_most} windows in flight each",
        f"config hash: {config.hash()}",
        f"first prompt ({len(prompt.token_ids):,} tokens of {config.engine.max_model_len:,}, up to"
        f" {config.generation.max_tokens:,} for the answer):",
        "",
        prompt.text,
    ]
    return "\n".join(lines)


def _first_pass(config: JobConfig) -> list[str]:
    if config.first_pass is None:
        return []
    return [f"first pass: {config.first_pass.engine.model} keeps {config.first_pass.keep} candidates of a query"]


def _first_request(config: JobConfig, source: Input) -> RerankRequest:
    """Raises InputError if the input is empty, RowError if its first query cannot be read."""
    tables = nest(source, config.input) if source.form == "long" else _tables(source)
    table = next((table for table in tables if table.num_rows), None)
    if table is None:
        raise InputError(f"{config.input.path} has no rows")
    return parse_row(check_batch(table.slice(0, 1), config.input).to_pylist()[0], config.input)


def _tables(source: Input) -> Iterator[pa.Table]:
    for path in source.paths:
        with source.filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
            for batch in file.iter_batches(1):
                yield pa.Table.from_batches([batch])
