"""The passes of a run. Each pass sends every unfinished query to the replicas once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import corpus_reranker
from corpus_reranker.cache.completions import completion_index
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import max_windows_in_flight
from corpus_reranker.dataflow.cluster import connect
from corpus_reranker.dataflow.coordinator import running_coordinator
from corpus_reranker.dataflow.processor import plan_run, rerank
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.sinks.base import ResumePoint, Sink
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.base import ParquetFiles
from corpus_reranker.run.progress import ProgressReporter
from corpus_reranker.run.ray_errors import run_error
from corpus_reranker.run.stats import running_stats_actor


@dataclass(frozen=True, slots=True)
class RunContext:
    """The common state of all passes of a run, while the lease on the output is held."""

    config: JobConfig
    candidates: ParquetFiles
    sink: Sink
    record: RunRecord
    isolated: IsolatedProcess
    log: Callable[[str], None]


def run_passes(
    run: RunContext, schema: pa.Schema, query_ids: pa.ChunkedArray, state: ResumePoint
) -> tuple[ResumePoint, list[dict[str, Any]]]:
    """Run passes until no query remains, or a pass leaves as many as it found.

    Args:
        run: The run.
        schema: Schema of the output files.
        query_ids: All ids of the input.
        state: What the output holds before the first pass.

    Returns:
        What the output holds after the last pass, and the manifest's entry of each pass.

    Raises:
        RunError: A pass failed; the same command resumes the run.
    """
    entries: list[dict[str, Any]] = []
    while state.remaining:
        before = state.remaining
        entries.append(_run_pass(run, schema, query_ids.filter(state.finished)))
        state = run.isolated.run(run.sink.prepare, query_ids)
        if state.remaining >= before:
            break
    return state, entries


def run_info(config: JobConfig) -> dict[str, Any]:
    """What the run's record says besides its fingerprint: the most GPUs that the run can use, for its report."""
    return {"gpus": config.cluster.max_replica_count * config.engine.gpus_per_replica}


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
        "reranker.fingerprint": config.fingerprint(),
    }


def _run_pass(run: RunContext, schema: pa.Schema, finished: pa.ChunkedArray) -> dict[str, Any]:
    """Rerank every query whose id is not in `finished`, and return the manifest's entry."""
    config, sink, record = run.config, run.sink, run.record
    started = time.monotonic()
    connect()
    remaining = record.queries - len(finished)
    plan = plan_run(config, remaining)
    run.log(
        f"{plan.replicas.initial} replicas requested, maximum {config.cluster.max_replica_count};"
        f" each holds up to {plan.blocks.per_replica} blocks of {plan.blocks.queries_per_block} queries,"
        f" with up to {max_windows_in_flight(config):,} windows in flight"
    )
    with running_stats_actor(record.run_id, remaining) as stats_actor, running_coordinator(remaining) as coordinator:
        services = RunServices(
            run_id=record.run_id,
            stats_actor=stats_actor,
            coordinator=coordinator,
            layout=sink.layout,
            completion_index=completion_index(sink.layout) if config.output.completion_cache else None,
            row_limits=config.input,
            keep_reasoning=config.output.keep_reasoning,
        )
        progress = ProgressReporter(
            stats_actor,
            record.queries,
            len(finished),
            config.cluster.progress_seconds,
            run.log,
            sink.publish,
        )
        try:
            with progress:
                rerank(config, run.candidates, finished, sink, schema, plan, services)
        except Exception as error:
            raise run_error(error, progress.last.start_failure) from error
    return _manifest_entry(progress, time.monotonic() - started)


def _manifest_entry(progress: ProgressReporter, wall_seconds: float) -> dict[str, Any]:
    stats = progress.last
    return {
        "wall_seconds": round(wall_seconds, 1),
        "replicas": len(stats.replicas),
        "engine_start_seconds": [round(seconds, 1) for seconds in stats.engine_start_seconds],
        "engine_deaths": stats.counts["engine_deaths"],
        "cache_hits": stats.counts["cache_hits"],
        "engine": stats.replicas[0].report.engine_info if stats.replicas else {},
        "in_flight": progress.windows_in_flight,
    }
