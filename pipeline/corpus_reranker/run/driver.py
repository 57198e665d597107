"""One run of the rerank job: from a valid config to an output in which every query is exactly once."""

import _thread
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import yaml

import corpus_reranker
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import plan_blocks
from corpus_reranker.dataflow.cluster import connect
from corpus_reranker.dataflow.events import EventLog
from corpus_reranker.dataflow.processor import rerank
from corpus_reranker.errors import RunError
from corpus_reranker.io.isolation import run_in_subprocess
from corpus_reranker.io.schemas import output_schema
from corpus_reranker.io.sinks.output import Output
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.long_form import as_nested_input
from corpus_reranker.io.sources.parquet import Input, check_input, read_query_ids
from corpus_reranker.io.status import read_status
from corpus_reranker.report.page import report_output
from corpus_reranker.run.progress import ProgressLines
from corpus_reranker.run.stats import StatsSnapshot, start_stats_actor
from corpus_reranker.types import QueryStatus

Log = Callable[[str], None]

_RETRY_ADVICE = re.compile(r"Failed to .+ after \d+/\d+ attempts")
"""_annotate_exception_with_retry_context of ray/data/_internal/util.py, 2.60."""

_DIRECT_CAUSE = "\n\nThe above exception was the direct cause"
"""Of a printed Python stack."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one start of a run does differently from the next, the job config being the same."""

    limit: int | None = None
    new_run: bool = False
    retry: tuple[QueryStatus, ...] = ()


def run(config: JobConfig, options: RunOptions, log: Log) -> Mapping[str, Any]:
    """Rerank what is left of the input, check the output, and return its manifest.

    A finished output is left as it is. Raises RerankerError for what a person has to mend; any other exception
    (KeyboardInterrupt too) leaves an output that the same call resumes.
    """
    source = run_in_subprocess(check_input, config.input, config.storage)
    output = Output(config.output, config.storage)
    fingerprint_fields = {**config.fingerprint_fields(), "input": source.fingerprint_fields(), "limit": options.limit}
    if output.check(fingerprint_fields, new_run=options.new_run) and not options.retry:
        log(f"nothing to do: {config.output.path} holds this run's finished output")
        return read_status(config.output.path, config.storage).manifest or {}
    lease = output.lease(job_id=os.environ.get("RAY_JOB_SUBMISSION_ID"), on_lost=_thread.interrupt_main)
    with lease:
        try:
            return _run(config, options, source, output, fingerprint_fields, log)
        except KeyboardInterrupt:
            lease.check()  # the lease's thread interrupts too, and then its message is the reason
            raise
        except OSError as error:  # of the storage, outside a pass
            raise _run_error(error) from error


def _run(
    config: JobConfig,
    options: RunOptions,
    source: Input,
    output: Output,
    fingerprint_fields: Mapping[str, Any],
    log: Log,
) -> Mapping[str, Any]:
    if options.new_run:
        output.discard()
    nested = as_nested_input(source, output.candidates_url, config.input, config.storage, options.limit)
    query_ids = run_in_subprocess(read_query_ids, nested)
    record = output.begin(
        fingerprint_fields, len(query_ids), config_yaml=yaml.safe_dump(config.dump(), sort_keys=False)
    )
    events = EventLog(config.cluster.event_log, record.run_id)
    schema = output_schema(nested.schema, metadata(config))
    left = run_in_subprocess(output.prepare, query_ids, retry=options.retry)
    if left.remaining < left.queries:
        log(f"{left.queries - left.remaining:,} of {left.queries:,} queries are done; going on with the rest")
    info: dict[str, Any] = {"passes": []}
    with events.run(queries=left.queries, remaining=left.remaining, config_hash=config.hash()):
        while left.remaining:
            before = left
            info["passes"].append(_pass(config, nested, output, schema, record, before.remaining, log))
            left = run_in_subprocess(output.prepare, query_ids)
            if left.remaining >= before.remaining:
                break  # `finish` says what is missing
        manifest = output.finish(left, schema, info)
    _report(config, log)
    return manifest


def _pass(
    config: JobConfig, nested: Input, output: Output, schema: pa.Schema, record: RunRecord, remaining: int, log: Log
) -> dict[str, Any]:
    """Rerank every query that the checkpoint does not hold. Returns facts for the manifest."""
    started = time.monotonic()
    connect()
    stats = start_stats_actor(record.run_id, remaining)
    cluster, done_before = config.cluster, record.queries - remaining
    lines = ProgressLines(stats, record.queries, done_before, cluster.progress_seconds, log, output.publish)
    in_flight = config.max_windows_in_flight
    replicas = cluster.min_replica_count, cluster.max_replica_count
    blocks = plan_blocks(remaining, *replicas, in_flight, cluster.queries_per_block)
    log(
        f"in flight: up to {in_flight:,} windows a replica, in {blocks.per_replica} blocks of"
        f" {blocks.queries_per_block} queries"
    )
    try:
        with lines:
            rerank(config, nested, output, schema, blocks, stats)
    except Exception as error:
        if reason := lines.last.start_failure:
            raise RunError(f"no replica could start: {reason}") from error
        raise _run_error(error) from error
    finally:
        ray.kill(stats)
    return {**_info(lines.last, time.monotonic() - started), "in_flight": lines.in_flight}


def _run_error(error: Exception) -> RunError:
    return RunError(f"the run broke off: {_reason(error)}\nrun the same command again to go on")


def _report(config: JobConfig, log: Log) -> None:
    """Write the run report. The run is done: what goes wrong here is said, and does not fail it."""
    try:
        page = run_in_subprocess(report_output, config.output.path, config.storage, config.report, config.evaluate)
        log(f"report: {page}")
    except Exception as error:
        log(f"no report, which `corpus-reranker report` can still write: {type(error).__name__}: {error}")


def _info(progress: StatsSnapshot, wall_seconds: float) -> dict[str, Any]:
    return {
        "wall_seconds": round(wall_seconds, 1),
        "replicas": len(progress.replicas),
        "engine_start_seconds": [round(seconds, 1) for seconds in progress.engine_start_seconds],
        "engine_deaths": progress.counts["engine_deaths"],
        "cache_hits": progress.counts["cache_hits"],
        "engine": progress.replicas[0].engine_info if progress.replicas else {},
    }


def metadata(config: JobConfig) -> dict[str, str]:
    """Key-value metadata of every output file."""
    return {
        "reranker.version": corpus_reranker.__version__,
        "reranker.model": config.engine.model,
        "reranker.engine": config.engine.kind,
        "reranker.pre_ranker_model": config.pre_ranker.engine.model if config.pre_ranker else "",
        "reranker.simulated": str(config.simulated).lower(),
        "reranker.template": config.prompt.template,
        "reranker.template_hash": config.prompt.load_template().hash,
        "reranker.config_hash": config.hash(),
    }


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: Ray wraps it in a stack of its own, and adds advice on retries behind it."""
    while True:
        stack, direct_cause, _ = str(error).partition(_DIRECT_CAUSE)
        if direct_cause:  # Ray kept the inner exception as text alone
            return stack.strip().splitlines()[-1]
        inner = getattr(error, "cause", None) or error.__cause__
        if inner is None:
            break
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    advice = next((number for number, line in enumerate(lines) if _RETRY_ADVICE.match(line)), len(lines))
    told = lines[:advice] or lines or [""]
    return f"{type(error).__name__}: {told[-1]}"
