"""The passes of a run. Each pass sends every unfinished query to the replicas once; with a budget, those of a round."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import corpus_reranker
from corpus_reranker.cache.completions import completion_index
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import check_cpus_for_data, max_windows_in_flight
from corpus_reranker.dataflow.cluster import connect, node_resources
from corpus_reranker.dataflow.coordinator import running_coordinator
from corpus_reranker.dataflow.processor import plan_run, rerank
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.errors import RerankerError, RunError, TransientRunError
from corpus_reranker.formatting import counted
from corpus_reranker.io.calibration import CALIBRATION_KEY, FINGERPRINT_KEY, Calibration
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.schemas import BUDGET, QUERY_ID
from corpus_reranker.io.sinks.base import ResumePoint, Sink
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.base import ParquetFiles
from corpus_reranker.io.spend import Spend
from corpus_reranker.run.budget import BudgetRound, plan_round
from corpus_reranker.run.damaged_input import damaged_input_error
from corpus_reranker.run.fingerprint import RunFingerprint
from corpus_reranker.run.progress import ProgressReporter
from corpus_reranker.run.ray_errors import reason, run_error
from corpus_reranker.run.restarts import Attempt
from corpus_reranker.run.round_quality import round_quality
from corpus_reranker.run.spend import SpendLedger
from corpus_reranker.run.stats import StatsSnapshot, running_stats_actor
from corpus_reranker.run.watchdog import Watchdog

_QUALITY_TIMEOUT_SECONDS = 600.0
"""Timeout of the evaluation between two rounds of a budget."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """The common state of all passes of a run, while the lease on the output is held."""

    config: JobConfig
    candidates: ParquetFiles
    sink: Sink
    record: RunRecord
    isolated: IsolatedProcess
    attempt: Attempt
    log: Callable[[str], None]
    calibration: Calibration | None


def run_passes(
    run: RunContext, schema: pa.Schema, query_ids: pa.ChunkedArray, state: ResumePoint, reused: int = 0
) -> tuple[ResumePoint, list[dict[str, Any]]]:
    """Run passes until no query remains and no budget is left, or a pass finishes nothing.

    Args:
        run: The run.
        schema: Schema of the output files.
        query_ids: All ids of the input.
        state: What the output holds before the first pass.
        reused: Number of rows that this start of the run copied from earlier outputs.

    Returns:
        What the output holds after the last pass, and the manifest's entry of each pass.

    Raises:
        RunError: A pass failed; the same command resumes the run.
    """
    entries: list[dict[str, Any]] = []
    probe_counts = {} if run.attempt.restarts else run.config.engine.probe_counts
    ledger = SpendLedger(run.config, run.sink.layout, run.record, probe_counts)
    work = _next_pass(run, query_ids, state, ledger)
    if work is None:
        return state, entries
    ledger.check(state.done)
    while work is not None:
        before = work
        budget = {} if work.round is None else {"budget": _round_entry(run, work.round)}
        entries.append(_run_pass(run, schema, work, reused, ledger) | budget)
        state = run.isolated.run(run.sink.prepare, query_ids)
        run.attempt.done = state.done
        work = _next_pass(run, query_ids, state, ledger)
        if work is not None:
            ledger.check(state.done)
            if work.done <= before.done:
                break
    if work is not None and not state.remaining:
        raise TransientRunError("no query of the last round has a new row; run the same command again to resume")
    return state, entries


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass.

    Attributes:
        finished: Ids of the queries that it skips.
        done: A count that grows whenever a query of the pass is finished.
        round: The round of the budget; None without one.
    """

    finished: pa.ChunkedArray
    done: int
    round: BudgetRound | None = None


def _next_pass(run: RunContext, query_ids: pa.ChunkedArray, state: ResumePoint, ledger: SpendLedger) -> _Pass | None:
    """The next pass; None if there is nothing left to do."""
    if run.config.budget is None:
        return _Pass(query_ids.filter(state.finished), state.done) if state.remaining else None
    spend, files = ledger.total or Spend(), (run.sink.layout.filesystem, list(state.files))
    planned = run.isolated.run(plan_round, run.config, run.record, spend, query_ids, *files)
    run.log(f"budget: {planned.describe()}")
    run.attempt.done = planned.allotted
    if not planned.limits.num_rows:
        return None
    chosen = pc.is_in(query_ids, value_set=planned.limits[QUERY_ID].combine_chunks())
    return _Pass(query_ids.filter(pc.invert(chosen)), planned.allotted, planned)


def _round_entry(run: RunContext, planned: BudgetRound) -> dict[str, Any]:
    """What the output holds before a round, for the manifest. Qrels that cannot be read do not fail the run."""
    config, layout, ndcg = run.config, run.sink.layout, None
    qrels = config.report.qrels or (config.evaluate and config.evaluate.qrels)
    if qrels and planned.rows:
        try:
            output = (layout.filesystem, layout.folder)
            ndcg = run.isolated.run_within(_QUALITY_TIMEOUT_SECONDS, round_quality, *output, qrels, config.storage)
        except RerankerError as error:
            run.log(f"cannot evaluate the rankings before this round: {error}")
    return planned.summary() | {"ndcg": ndcg}


def max_gpus(config: JobConfig) -> int:
    """Maximum number of GPUs that the run can use, for its report."""
    return config.cluster.max_replica_count * config.engine.gpus_per_replica


def file_metadata(config: JobConfig, fingerprint: RunFingerprint, run_id: str) -> dict[str, str]:
    """Key-value metadata of every output file."""
    budget = {} if config.budget is None else {BUDGET: config.budget.model_dump_json()}
    return budget | {
        "reranker.version": corpus_reranker.__version__,
        "reranker.model": config.engine.model,
        "reranker.engine": config.engine.kind,
        "reranker.pre_ranker_model": config.pre_ranker.engine.model if config.pre_ranker else "",
        "reranker.simulated": str(config.simulated).lower(),
        "reranker.template": config.prompt.template,
        "reranker.template_hash": config.prompt.load_template().hash,
        FINGERPRINT_KEY: fingerprint.reranker,
        CALIBRATION_KEY: "" if fingerprint.calibration is None else fingerprint.calibration.digest,
        "reranker.run_id": run_id,
    }


def _run_pass(run: RunContext, schema: pa.Schema, work: _Pass, reused: int, ledger: SpendLedger) -> dict[str, Any]:
    """Rerank the queries of a pass, and return the manifest's entry."""
    config, sink, record, finished = run.config, run.sink, run.record, work.finished
    started = time.monotonic()
    _connect()
    run.attempt.running = True
    remaining = record.queries - len(finished)
    check_cpus_for_data(config.cluster, config.engine.gpus_per_replica, node_resources(), resumed=len(finished) > 0)
    plan = plan_run(config, remaining)
    run.log(
        f"{counted(plan.replicas.initial, 'replica')} requested, maximum {config.cluster.max_replica_count};"
        f" each holds up to {counted(plan.blocks.per_replica, 'block')} of"
        f" {counted(plan.blocks.queries_per_block, 'query')},"
        f" with up to {counted(max_windows_in_flight(config), 'window')} in flight"
    )
    ledger.begin_pass()
    with (
        running_stats_actor(record.run_id, remaining, reused, config.engine.token_prices) as stats_actor,
        running_coordinator(remaining, ledger.cost_left) as coordinator,
    ):
        services = _services(run, work, stats_actor, coordinator)
        progress = ProgressReporter(
            stats_actor,
            record.queries,
            len(finished),
            config.cluster.progress_seconds,
            run.log,
            sink.publish_progress,
            reused=reused,
            ledger=ledger,
        )
        try:
            with progress, Watchdog(stats_actor, config, run.log):
                rerank(config, run.candidates, finished, sink, schema, plan, services)
        except RunError:
            raise
        except Exception as error:
            damaged = damaged_input_error(error, run.candidates, run.isolated)
            raise damaged or run_error(error, engine_failure(progress.last)) from error
    return _manifest_entry(progress, time.monotonic() - started)


def _services(run: RunContext, work: _Pass, stats_actor: Any, coordinator: Any) -> RunServices:
    """The services of a pass. `stats_actor` and `coordinator` are actor handles."""
    config = run.config
    return RunServices(
        run_id=run.record.run_id,
        stats_actor=stats_actor,
        coordinator=coordinator,
        has_max_cost=config.max_cost is not None,
        window_limits=work.round and work.round.limits,
        layout=run.sink.layout,
        completion_index=run.isolated.run(completion_index, run.sink.layout),
        cache_completions=config.output.completion_cache,
        row_limits=config.input,
        keep_reasoning=config.output.keep_reasoning,
        calibration=run.calibration,
    )


def engine_failure(stats: StatsSnapshot) -> str | None:
    """Why no replica could start or answer a window. Another attempt would fail in the same way."""
    if stats.start_failure or stats.counts["completions"] or not stats.counts["engine_deaths"]:
        return stats.start_failure
    deaths, last = stats.counts["engine_deaths"], stats.recent_errors[-1]
    return f"{counted(deaths, 'engine')} died before their first answer; {last}"


def _connect() -> None:
    try:
        connect()
    except Exception as error:  # Ray also raises plain exceptions
        if address := os.environ.get("RAY_ADDRESS"):
            raise RunError(f"cannot reach the Ray cluster at {address}: {reason(error)}") from error
        raise TransientRunError(f"cannot start Ray on this machine: {reason(error)}") from error


def _manifest_entry(progress: ProgressReporter, wall_seconds: float) -> dict[str, Any]:
    stats = progress.last
    return {
        "wall_seconds": round(wall_seconds, 1),
        "replicas": len(stats.replicas),
        "engine_start_seconds": [round(seconds, 1) for seconds in stats.engine_start_seconds],
        "engine_deaths": stats.counts["engine_deaths"],
        "completions": stats.counts["completions"],
        "cache_hits": stats.counts["cache_hits"],
        "engine": stats.replicas[0].report.engine_info if stats.replicas else {},
        "in_flight": progress.windows_in_flight,
    }
