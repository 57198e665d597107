"""The driver of a rerank job: from a valid config to an output that holds every query exactly once."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

from corpus_reranker import __version__
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.events import EventLog
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.schemas import output_schema
from corpus_reranker.io.sinks.base import Sink
from corpus_reranker.io.sinks.registry import open_sink
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.listing import describe_skipped
from corpus_reranker.io.sources.parquet_files import read_query_ids
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.rows import check_shown
from corpus_reranker.io.sources.staging import stage
from corpus_reranker.io.spend import read_spend
from corpus_reranker.io.status import read_status
from corpus_reranker.run.budget import check_budget
from corpus_reranker.run.fingerprint import RunFingerprint, check_input_unchanged, recorded_input, run_fingerprint
from corpus_reranker.run.finished_run import compact_completions, write_final_report
from corpus_reranker.run.output_lease import output_lease
from corpus_reranker.run.passes import RunContext, file_metadata, max_gpus, run_passes
from corpus_reranker.run.preflight import describe_capabilities, preflight, probed
from corpus_reranker.run.restarts import Attempt, run_with_restarts
from corpus_reranker.run.reuse import add_reused_rows
from corpus_reranker.types import QueryStatus

_logger = logging.getLogger("corpus_reranker")


def run_job(
    config: JobConfig,
    *,
    limit: int | None = None,
    new_run: bool = False,
    retry: Collection[QueryStatus] = (),
    log: Callable[[str], None] = _logger.info,
) -> Mapping[str, Any]:
    """Check the config, rerank the input's unfinished queries, check the output, and return its manifest.

    A run that fails for a transient reason is restarted. A finished output is not changed. To resume a failed run, call
    the function again with the same config.

    Args:
        config: The job.
        limit: Rerank only this many queries, from the start of the input.
        new_run: Discard the existing output.
        retry: Rerank finished queries with these statuses again.
        log: Called with each log line.

    Raises:
        RunError: The run failed, even after the restarts that `cluster.max_restarts` allows.
        RerankerError: Config, input or output must be fixed first.
    """
    given, config = config, probed(config)
    if config != given:
        log(describe_capabilities(config.engine))
    for warning in preflight(config):
        log(f"warning: {warning}")

    def attempt(state: Attempt) -> Mapping[str, Any]:
        return _run_once(config, limit, new_run and not state.prepared, retry, state, log)

    return run_with_restarts(attempt, config.cluster.max_restarts, log)


def _run_once(
    config: JobConfig,
    limit: int | None,
    new_run: bool,
    retry: Collection[QueryStatus],
    attempt: Attempt,
    log: Callable[[str], None],
) -> Mapping[str, Any]:
    with IsolatedProcess() as isolated:
        sink = open_sink(config.output, config.storage)
        record = sink.record()
        resumed = None if new_run else record
        pinned_input = recorded_input(config.input, resumed)
        source = isolated.run(open_source, pinned_input, config.storage)
        if skipped := describe_skipped(config.input.path, config.storage, source.paths):
            log(f"warning: {skipped}")
        if resumed is None or pinned_input != config.input:
            computes_digests = source.paths and record is None
            log(f"input: {source.describe()}{'; reading it once to compute its digests' if computes_digests else ''}")
        fingerprint = run_fingerprint(config, source, limit, record, isolated)
        if sink.check(fingerprint.fields, new_run=new_run) and not retry:
            log(f"nothing to do: {config.output.path} holds this run's finished output")
            return read_status(config.output.path, config.storage).manifest or {}
        with output_lease(sink):
            folder, digests = sink.layout.candidates_url, fingerprint.fields["input"]["files"]
            candidates = isolated.run(stage, source, folder, config.input, config.storage, limit, digests)
            is_copy = candidates.paths != list(source.paths)
            if is_copy:
                check_input_unchanged(config, source, fingerprint)
            check_shown(candidates.schema, config.prompt.load_template().shown)
            query_ids = isolated.run(read_query_ids, candidates)
            check_budget(config, len(query_ids), candidates.schema, retry)
            config_yaml = yaml.safe_dump(config.dump(), sort_keys=False)
            info = {**fingerprint.info, "gpus": max_gpus(config), "keep_reasoning": config.output.keep_reasoning}
            record = sink.begin(fingerprint.fields, len(query_ids), config_yaml=config_yaml, info=info, new_run=new_run)
            _log_version(record, log)
            schema = output_schema(candidates.schema, file_metadata(config, fingerprint, record.run_id))
            state = isolated.run(sink.prepare, query_ids, retry=retry)
            attempt.prepared, attempt.done = True, state.done
            if state.done:
                log(f"{state.done:,} of {state.queries:,} queries are finished; reranking the rest")
            run = RunContext(config, candidates, sink, record, isolated, attempt, log, fingerprint.calibration)
            state, reused = add_reused_rows(run, fingerprint.reranker_fields, schema, query_ids, state, retry)
            events = EventLog(config.cluster.event_log, record.run_id)
            with events.run(queries=state.queries, remaining=state.remaining, fingerprint=fingerprint.reranker):
                state, passes = run_passes(run, schema, query_ids, state, reused)
                if not is_copy:
                    check_input_unchanged(config, source, fingerprint)
                manifest = sink.finish(state, schema, _manifest_info(sink, record, passes, fingerprint))
        write_final_report(config, isolated, log)
        compact_completions(config, isolated, log)
    return manifest


def _log_version(record: RunRecord, log: Callable[[str], None]) -> None:
    """Log that another version of the package began the run."""
    if (begun := record.info.get("version")) != __version__:
        log(f"begun by {begun}, resumed by {__version__}")


def _manifest_info(
    sink: Sink, record: RunRecord, passes: list[dict[str, Any]], fingerprint: RunFingerprint
) -> dict[str, Any]:
    """What the manifest holds in addition to the counts of the data files, as JSON values."""
    spend = read_spend(sink.layout.filesystem, sink.layout.spend_folder)
    return {
        "passes": passes,
        "versions": {"started": record.info.get("version"), "finished": __version__},
        "input": {name: value for name, value in fingerprint.fields["input"].items() if name != "files"},
        "spend": spend and dataclasses.asdict(spend),
    }
