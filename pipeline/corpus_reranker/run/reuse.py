"""Adds rows of earlier outputs to a run, before any engine starts."""

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from corpus_reranker.cache.earlier_outputs import ReuseRequest
from corpus_reranker.cache.results import copy_reusable_rows
from corpus_reranker.formatting import counted
from corpus_reranker.io.run_progress import RunProgress
from corpus_reranker.io.sinks.base import ResumePoint
from corpus_reranker.run.passes import RunContext
from corpus_reranker.types import QueryStatus


def add_reused_rows(
    run: RunContext,
    reranker: Mapping[str, Any],
    schema: pa.Schema,
    query_ids: pa.ChunkedArray,
    state: ResumePoint,
    retry: Collection[QueryStatus] = (),
) -> tuple[ResumePoint, int]:
    """Copy rows of `reuse.outputs` for unfinished queries.

    An earlier output that cannot be reused is logged and does not fail the run.

    Args:
        run: The run.
        reranker: The fingerprint fields of the reranker.
        schema: Schema of the output files.
        query_ids: All ids of the input.
        state: What the output holds.
        retry: Statuses of queries that are reranked again; rows with these statuses are not copied.

    Returns:
        What the output holds afterwards, and the number of copied rows.
    """
    config = run.config
    statuses = [status for status in config.reuse.statuses if status not in retry]
    if not config.reuse.outputs or not statuses or not state.remaining:
        return state, 0
    run.log(f"looking for unchanged queries in {counted(len(config.reuse.outputs), 'earlier output')}")
    request = ReuseRequest(
        urls=config.reuse.outputs,
        statuses=statuses,
        reranker=reranker,
        keep_reasoning=config.output.keep_reasoning,
        storage=config.storage,
        row_limits=config.input,
        shown=config.prompt.load_template().shown,
        calibration=run.calibration,
    )
    finished = query_ids.filter(state.finished)
    for reason in run.isolated.run(copy_reusable_rows, request, run.candidates, finished, run.sink, schema):
        run.log(f"warning: {reason}")
    after = run.isolated.run(run.sink.prepare, query_ids, retry=retry)
    reused = after.done - state.done
    run.log(f"{counted(reused, 'query')} reused from earlier outputs, {after.remaining:,} left to rerank")
    if reused:
        run.sink.publish_progress(RunProgress(queries=after.queries, done=after.done, reused=reused))
    return after, reused
