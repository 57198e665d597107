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

import pipeline
from pipeline.config import JobConfig
from pipeline.dataflow.cluster import connect
from pipeline.dataflow.events import EventLog
from pipeline.dataflow.progress import ProgressLines
from pipeline.dataflow.rerank import rerank
from pipeline.dataflow.tally import Progress, start_tally
from pipeline.errors import RunError
from pipeline.evaluation.report import report_output
from pipeline.in_flight import plan_blocks
from pipeline.records import QueryStatus
from pipeline.storage.apart import apart
from pipeline.storage.inputs import Input, check_input, read_query_ids
from pipeline.storage.nesting import nested_input
from pipeline.storage.output import Output
from pipeline.storage.runs import Run
from pipeline.storage.schemas import output_schema
from pipeline.storage.status import read_status

Say = Callable[[str], None]

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


def run(config: JobConfig, options: RunOptions, say: Say) -> Mapping[str, Any]:
    """Rerank what is left of the input, check the output, and return its manifest.

    A finished output is left as it is. Raises RerankerError for what a person has to mend; any other exception
    (KeyboardInterrupt too) leaves an output that the same call resumes.
    """
    source = apart(check_input, config.input, config.storage)
    output = Output(config.output, config.storage)
    identity = {**config.identity(), "input": source.identity(), "limit": options.limit}
    if output.check(identity, new_run=options.new_run) and not options.retry:
        say(f"nothing to do: {config.output.path} holds this run's finished output")
        return read_status(config.output.path, config.storage).manifest or {}
    lease = output.lease(job_id=os.environ.get("RAY_JOB_SUBMISSION_ID"), on_lost=_thread.interrupt_main)
    with lease:
        try:
            return _run(config, options, source, output, identity, say)
        except KeyboardInterrupt:
            lease.check()  # the lease's thread interrupts too, and then its message is the reason
            raise
        except OSError as error:  # of the storage, outside a pass
            raise _broken_off(error) from error


def _run(
    config: JobConfig, options: RunOptions, source: Input, output: Output, identity: Mapping[str, Any], say: Say
) -> Mapping[str, Any]:
    if options.new_run:
        output.discard()
    nested = nested_input(source, output.candidates_url, config.input, config.storage, options.limit)
    query_ids = apart(read_query_ids, nested)
    record = output.begin(identity, len(query_ids), config_yaml=yaml.safe_dump(config.dump(), sort_keys=False))
    events = EventLog(config.cluster.event_log, record.run_id)
    schema = output_schema(nested.schema, metadata(config))
    left = apart(output.prepare, query_ids, retry=options.retry)
    if left.remaining < left.queries:
        say(f"{left.queries - left.remaining:,} of {left.queries:,} queries are done; going on with the rest")
    facts: dict[str, Any] = {"passes": []}
    with events.run(queries=left.queries, remaining=left.remaining, config_hash=config.hash()):
        while left.remaining:
            before = left
            facts["passes"].append(_pass(config, nested, output, schema, record, before.remaining, say))
            left = apart(output.prepare, query_ids)
            if left.remaining >= before.remaining:
                break  # `finish` says what is missing
        manifest = output.finish(left, schema, facts)
    _report(config, say)
    return manifest


def _pass(
    config: JobConfig, nested: Input, output: Output, schema: pa.Schema, record: Run, remaining: int, say: Say
) -> dict[str, Any]:
    """Rerank every query that the checkpoint does not hold. Returns facts for the manifest."""
    started = time.monotonic()
    connect()
    tally = start_tally(record.run_id, remaining)
    cluster, done_before = config.cluster, record.queries - remaining
    lines = ProgressLines(tally, record.queries, done_before, cluster.progress_seconds, say, output.publish)
    in_flight = config.windows_in_flight_at_most
    replicas = cluster.replicas_at_least, cluster.replicas_at_most
    blocks = plan_blocks(remaining, *replicas, in_flight, cluster.queries_per_block)
    say(
        f"in flight: up to {in_flight:,} windows a replica, in {blocks.per_replica} blocks of"
        f" {blocks.queries_per_block} queries"
    )
    try:
        with lines:
            rerank(config, nested, output, schema, blocks, tally)
    except Exception as error:
        if reason := lines.last.start_failure:
            raise RunError(f"no replica could start: {reason}") from error
        raise _broken_off(error) from error
    finally:
        ray.kill(tally)
    return {**_facts(lines.last, time.monotonic() - started), "in_flight": lines.in_flight}


def _broken_off(error: Exception) -> RunError:
    return RunError(f"the run broke off: {_reason(error)}\nrun the same command again to go on")


def _report(config: JobConfig, say: Say) -> None:
    """Write the run report. The run is done: what goes wrong here is said, and does not fail it."""
    try:
        page = apart(report_output, config.output.path, config.storage, config.report, config.evaluate)
        say(f"report: {page}")
    except Exception as error:
        say(f"no report, which `python -m jobs.report` can still write: {type(error).__name__}: {error}")


def _facts(progress: Progress, wall_seconds: float) -> dict[str, Any]:
    return {
        "wall_seconds": round(wall_seconds, 1),
        "replicas": len(progress.replicas),
        "engine_start_seconds": [round(seconds, 1) for seconds in progress.engine_start_seconds],
        "engine_deaths": progress.counts["engine_deaths"],
        "completions_recalled": progress.counts["completions_recalled"],
        "engine": progress.replicas[0].engine_facts if progress.replicas else {},
    }


def metadata(config: JobConfig) -> dict[str, str]:
    """Key-value metadata of every output file."""
    return {
        "reranker.version": pipeline.__version__,
        "reranker.model": config.engine.model,
        "reranker.engine": config.engine.kind,
        "reranker.first_pass_model": config.first_pass.engine.model if config.first_pass else "",
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
