"""The driver of a rerank job: from a valid config to an output that holds every query exactly once."""

import _thread
import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import yaml

import corpus_reranker
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.events import EventLog
from corpus_reranker.io.isolation import run_in_subprocess
from corpus_reranker.io.schemas import output_schema
from corpus_reranker.io.sinks.output import Output
from corpus_reranker.io.sources.long_form import as_nested_input
from corpus_reranker.io.sources.parquet import check_input, read_query_ids
from corpus_reranker.io.status import read_status
from corpus_reranker.report.page import report_output
from corpus_reranker.run.ray_errors import run_error
from corpus_reranker.run.run_pass import run_pass
from corpus_reranker.types import QueryStatus

Log = Callable[[str], None]

_logger = logging.getLogger("corpus_reranker")


def run_job(
    config: JobConfig,
    *,
    limit: int | None = None,
    new_run: bool = False,
    retry: Collection[QueryStatus] = (),
    log: Log = _logger.info,
) -> Mapping[str, Any]:
    """Rerank the input's unfinished queries, check the output, and return its manifest.

    A finished output is left as it is. Call it again with the same config to resume after any error.

    Args:
        config: The job.
        limit: Rerank the first so many queries of the input only.
        new_run: Discard what the output holds.
        retry: Rerank finished queries with these statuses again.
        log: Called with each line for people.

    Raises:
        RunError: The run failed and can be resumed.
        RerankerError: Config, input or output must be fixed first.
    """
    source = run_in_subprocess(check_input, config.input, config.storage)
    output = Output(config.output, config.storage)
    fingerprint = {**config.fingerprint_fields(), "input": source.fingerprint_fields(), "limit": limit}
    if output.check(fingerprint, new_run=new_run) and not retry:
        log(f"nothing to do: {config.output.path} holds this run's finished output")
        return read_status(config.output.path, config.storage).manifest or {}
    with _lease(output):
        if new_run:
            output.discard()
        source = as_nested_input(source, output.candidates_url, config.input, config.storage, limit)
        query_ids = run_in_subprocess(read_query_ids, source)
        config_yaml = yaml.safe_dump(config.dump(), sort_keys=False)
        record = output.begin(fingerprint, len(query_ids), config_yaml=config_yaml)
        schema = output_schema(source.schema, file_metadata(config))
        state = run_in_subprocess(output.prepare, query_ids, retry=retry)
        if state.done:
            log(f"{state.done:,} of {state.queries:,} queries are finished; reranking the rest")
        passes: list[dict[str, Any]] = []
        events = EventLog(config.cluster.event_log, record.run_id)
        with events.run(queries=state.queries, remaining=state.remaining, config_hash=config.hash()):
            while state.remaining:
                before = state.remaining
                passes.append(run_pass(config, source, output, schema, record, before, log))
                state = run_in_subprocess(output.prepare, query_ids)
                if state.remaining >= before:
                    break  # `finish` raises with the number of missing queries
            manifest = output.finish(state, schema, {"passes": passes})
        _write_report(config, log)
        return manifest


def file_metadata(config: JobConfig) -> dict[str, str]:
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


@contextlib.contextmanager
def _lease(output: Output) -> Iterator[None]:
    """Hold the output's lease. Its renewal thread interrupts the main thread when another process takes it."""
    lease = output.lease(job_id=os.environ.get("RAY_JOB_SUBMISSION_ID"), on_lost=_thread.interrupt_main)
    with lease:
        try:
            yield
        except KeyboardInterrupt:
            lease.check()  # raises if the lease is lost, else the user interrupted
            raise
        except OSError as error:  # of the store, between two passes
            raise run_error(error) from error


def _write_report(config: JobConfig, log: Log) -> None:
    """Write the run report. The run is finished: a failure here is logged and does not fail it."""
    try:
        page = run_in_subprocess(report_output, config.output.path, config.storage, config.report, config.evaluate)
        log(f"report: {page}")
    except Exception as error:
        log(f"no report, which `corpus-reranker report` can still write: {type(error).__name__}: {error}")
