"""A rerank job in this process: the driver from open to commit, and the code of a replica, without Ray."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.coordinator import CoordinatorClient
from corpus_reranker.dataflow.queries_in_flight import QueriesInFlight
from corpus_reranker.dataflow.query_reranker import QueryReranker
from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.dataflow.replica_stats import ReplicaStats
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.errors import RowError
from corpus_reranker.io import schemas
from corpus_reranker.io.request_fingerprint import request_fingerprints
from corpus_reranker.io.sinks.base import ResumePoint
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.io.sources.rows import check_batch, parse_row
from corpus_reranker.run import driver
from corpus_reranker.run.passes import RunContext
from helpers.isolation import without_subprocess
from helpers.runs import rerank

_REPLICA = ReplicaId("local", "local:1")
_ROWS_PER_BLOCK = 256


class CountingStats(ReplicaStats):
    """Counts of the replica, which no stats actor gets."""

    def __init__(self) -> None:
        super().__init__(_REPLICA)
        self.counts: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount


class LocalPasses:
    """Stands in for `run_passes`: one replica in this process reranks what is left.

    Attributes:
        reranked: The query ids of all passes, in the order of the input.
        counts: The replica's counts.
    """

    def __init__(self) -> None:
        self.reranked: list[str] = []
        self.counts: Counter[str] = Counter()

    def __call__(
        self, run: RunContext, schema: pa.Schema, query_ids: pa.ChunkedArray, state: ResumePoint, reused: int = 0
    ) -> tuple[ResumePoint, list[dict[str, Any]]]:
        if not state.remaining:
            return state, []
        counts = asyncio.run(self._run(run, schema, query_ids.filter(state.finished)))
        self.counts += counts
        entry = {name: counts[name] for name in ("completions", "cache_hits")}
        return run.sink.prepare(query_ids), [{"engine_start_seconds": [], **entry}]

    async def _run(self, run: RunContext, schema: pa.Schema, finished: pa.ChunkedArray) -> Counter[str]:
        stats = CountingStats()
        in_flight = QueriesInFlight(CoordinatorClient(_REPLICA))
        reranker = QueryReranker(run.config, _REPLICA, RunServices(), stats, in_flight)
        await reranker.start()
        for table in iter_tables(run.candidates, _ROWS_PER_BLOCK):
            left = table.filter(pc.invert(pc.is_in(table[schemas.QUERY_ID], value_set=finished)))
            if left.num_rows:
                block = check_batch(left, run.config.input)
                rows = await asyncio.gather(*(self._rerank(reranker, row, run.config) for row in block.to_pylist()))
                fingerprints = request_fingerprints(block)
                table = schemas.output_table(rows, block, schema, fingerprints, run.calibration)
                run.sink.write_file([table], schema)
        await reranker.flush()
        return stats.counts

    async def _rerank(self, reranker: QueryReranker, row: dict[str, Any], config: JobConfig) -> dict[str, Any]:
        self.reranked.append(row[schemas.QUERY_ID])
        try:
            request = parse_row(row)
        except RowError as error:
            return schemas.unreadable_row(row, str(error))
        async with reranker.admission.query(reranker.max_windows(len(request.candidates))) as slot:
            result = await reranker.rerank(request, slot)
        duplicates = len(row[schemas.CANDIDATES]) - len(request.candidates)
        return schemas.output_row(request, result, config.output.keep_reasoning, duplicates)


@dataclass(frozen=True)
class LocalRun:
    """A finished run."""

    manifest: dict[str, Any]
    lines: list[str]
    reranked: Sequence[str]
    counts: Counter[str]


def rerank_locally(monkeypatch: pytest.MonkeyPatch, settings: JobConfig, **options: Any) -> LocalRun:
    """Run the job without Ray, subprocesses and report."""
    passes = LocalPasses()
    monkeypatch.setattr(driver, "run_passes", passes)
    monkeypatch.setattr(driver, "write_final_report", lambda *_: None)
    without_subprocess(monkeypatch)
    manifest, lines = rerank(settings, **options)
    return LocalRun(manifest, lines, passes.reranked, passes.counts)
