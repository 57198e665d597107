"""Dry run: checks a job and prints its plan and first prompt. It starts no engine and writes no output."""

from dataclasses import dataclass

import pyarrow as pa

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import max_windows_in_flight
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.errors import OutputHeldError, RowError
from corpus_reranker.formatting import counted
from corpus_reranker.io.calibration import Calibration
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.object_store import check_writable, open_object_store
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import InputConfig
from corpus_reranker.io.sinks.base import Sink
from corpus_reranker.io.sinks.registry import open_sink
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.listing import describe_skipped
from corpus_reranker.io.sources.parquet_files import check_query_ids, check_unique, read_query_ids
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.rows import check_batch, check_shown, parse_row, python_rows
from corpus_reranker.io.sources.staging import head
from corpus_reranker.io.status import read_holder
from corpus_reranker.io.storage_errors import output_errors
from corpus_reranker.run.fingerprint import recorded_input, run_fingerprint
from corpus_reranker.run.preflight import describe_capabilities
from corpus_reranker.types import RerankRequest, ShownInput


def describe_plan(config: JobConfig, limit: int | None = None, *, new_run: bool = False) -> str:
    """Check input and output as a run does, and describe the plan as text.

    Args:
        config: The job.
        limit: Number of queries; None for all.
        new_run: The run would discard what the output holds.

    Raises:
        ConfigError: The config cannot work.
        InputError: The input cannot be read.
        OutputError: The output holds another run, a live run holds it, or it cannot be written.
    """
    with IsolatedProcess() as isolated:
        sink = open_sink(config.output, config.storage)
        record = None if new_run else sink.record()
        source = isolated.run(open_source, recorded_input(config.input, record), config.storage)
        skipped = describe_skipped(config.input.path, config.storage, source.paths)
        is_finished = _check_output(config, source, limit, sink, record, isolated, new_run=new_run)
        first = isolated.run(_check_rows, source, config, limit)
    cluster, strategy, fingerprint = config.cluster, config.strategy, config.fingerprint()
    lines = [
        f"input: {config.input.path}: {source.describe()}"
        + (f", of which the first {counted(limit, 'query')}" if limit else ""),
        *([skipped] if skipped else []),
        f"output: {config.output.path}" + (": finished; a run has nothing to do" if is_finished else ""),
        describe_capabilities(config.engine),
        *_pre_ranker_lines(config),
        f"strategy: {strategy}",
        *_calibration_lines(config.load_calibration(fingerprint)),
        f"replicas: {cluster.replicas or f'{cluster.min_replica_count} to {cluster.max_replica_count}'}"
        f" of {config.engine.kind} with {counted(config.engine.gpus_per_replica, 'GPU')}, up to"
        f" {counted(max_windows_in_flight(config), 'window')} in flight each",
        f"fingerprint: {fingerprint}",
    ]
    if first.unreadable:
        lines.append(f"failed rows before the first readable query: {first.unreadable:,}; the first: {first.problem}")
    return "\n".join([*lines, *(_prompt_lines(config, first.request) if first.request else ["no readable query"])])


@dataclass(frozen=True, slots=True)
class _First:
    """The first readable query, if any, the number of unreadable rows before it, and the first one's problem."""

    request: RerankRequest | None
    unreadable: int
    problem: str | None


def _check_output(
    config: JobConfig,
    source: Source,
    limit: int | None,
    sink: Sink,
    record: RunRecord | None,
    isolated: IsolatedProcess,
    *,
    new_run: bool,
) -> bool:
    """Whether the output is finished. Raises OutputError if a run would be refused."""
    fields = run_fingerprint(config, source, limit, record, isolated).fields if record else {}
    is_finished = sink.check(fields, new_run=new_run)
    control = open_object_store(config.output.path, config.storage)
    with output_errors(redact(config.output.path)):
        if holder := read_holder(control):
            raise OutputHeldError(f"{redact(config.output.path)} is written by {holder}; wait until it ends")
        check_writable(control)
    return is_finished


def _check_rows(source: Source, config: JobConfig, limit: int | None) -> _First:
    """Read what a run reads before its first pass: the query ids, and all rows of an input that must be staged."""
    only_ids = source.nested_files if limit is None else None
    if only_ids is not None:
        read_query_ids(only_ids)
    shown = config.prompt.load_template().shown
    first, ids, rows = _First(None, 0, None), [], 0
    for table in head(source.tables(), limit):
        ids.append(check_query_ids(table[QUERY_ID].combine_chunks(), rows, "the input"))
        rows += table.num_rows
        if first.request is None:
            first = _first_readable(table, config.input, shown, first)
        elif only_ids is not None:
            return first
    check_unique(pa.chunked_array(ids, pa.string()), lambda row: f"row {row}")
    return first


def _first_readable(table: pa.Table, settings: InputConfig, shown: ShownInput, before: _First) -> _First:
    unreadable, problem = before.unreadable, before.problem
    check_shown(table.schema, shown)
    for row in python_rows(check_batch(table, settings), shown):
        try:
            return _First(parse_row(row, shown), unreadable, problem)
        except RowError as error:
            unreadable, problem = unreadable + 1, problem or f"query {row[QUERY_ID]!r}: {error}"
    return _First(None, unreadable, problem)


def _calibration_lines(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return []
    fitted = f"fitted on {counted(calibration.pairs, 'judged pair')} of {counted(calibration.queries, 'query')}"
    return [f"calibration: p_relevant from {calibration.score} ({calibration.method}), {fitted}"]


def _prompt_lines(config: JobConfig, request: RerankRequest) -> list[str]:
    ranked = config.num_ranked(len(request.candidates))
    prompt = create_prompt_builder(config)(request)(range(min(config.strategy.max_window, ranked)))
    return [
        f"a query with {counted(len(request.candidates), 'candidate')}: at most"
        f" {counted(config.strategy.max_windows(ranked), 'window')},"
        f" up to {counted(config.policy.max_attempts, 'attempt')} each",
        f"first prompt ({counted(len(prompt.token_ids), 'token')} of {config.engine.max_model_len:,}, up to"
        f" {config.generation.max_tokens:,} for the answer):",
        "",
        prompt.text,
    ]


def _pre_ranker_lines(config: JobConfig) -> list[str]:
    if config.pre_ranker is None:
        return []
    return [f"pre-ranker: {config.pre_ranker.engine.model} keeps {config.pre_ranker.keep} candidates of a query"]
