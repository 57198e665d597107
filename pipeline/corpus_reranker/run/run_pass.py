"""One pass of a run: every query that is not finished goes through the replicas once."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import plan_blocks
from corpus_reranker.dataflow.cluster import connect
from corpus_reranker.dataflow.coordinator import running_coordinator
from corpus_reranker.dataflow.processor import rerank
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.io.sinks.output import Output
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.parquet import Input
from corpus_reranker.run.progress import ProgressReporter
from corpus_reranker.run.ray_errors import run_error
from corpus_reranker.run.stats import running_stats_actor


def run_pass(
    config: JobConfig,
    source: Input,
    output: Output,
    schema: pa.Schema,
    record: RunRecord,
    remaining: int,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Rerank every query that the output's checkpoint does not hold.

    Returns:
        The pass's entry in the manifest.

    Raises:
        RunError: The pass failed; the same command resumes the run.
    """
    started = time.monotonic()
    connect()
    cluster, in_flight = config.cluster, config.max_windows_in_flight
    replicas = cluster.min_replica_count, cluster.max_replica_count
    blocks = plan_blocks(remaining, *replicas, in_flight, cluster.queries_per_block)
    log(
        f"each replica holds up to {blocks.per_replica} blocks of {blocks.queries_per_block} queries,"
        f" with up to {in_flight:,} windows in flight"
    )
    with running_stats_actor(record.run_id, remaining) as stats_actor, running_coordinator(remaining) as coordinator:
        run = RunServices(
            run_id=record.run_id,
            stats_actor=stats_actor,
            coordinator=coordinator,
            output=output,
            completion_index=output.completion_index() if config.output.completion_cache else None,
            row_limits=config.input,
            keep_reasoning=config.output.keep_reasoning,
        )
        progress = ProgressReporter(
            stats_actor, record.queries, record.queries - remaining, cluster.progress_seconds, log, output.publish
        )
        try:
            with progress:
                rerank(config, source, output, schema, blocks, run)
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
