"""A rerank job in this process: the driver from open to commit, with passes that need no Ray."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.registry import create_engine
from corpus_reranker.errors import RowError
from corpus_reranker.io import schemas
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.request_fingerprint import request_fingerprints
from corpus_reranker.io.sinks.base import ResumePoint
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.io.sources.rows import check_batch, parse_row
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.run.passes import RunContext
from corpus_reranker.types import Completion, Prompt, SamplingParams
from helpers.runs import rerank


class LocalPasses:
    """Stands in for `run_passes`: a pass reranks with the answers of the scripted engine.

    Attributes:
        reranked: The query ids of all passes, in order.
        requests: The number of requests.
    """

    def __init__(self) -> None:
        self.reranked: list[str] = []
        self.requests = 0

    def __call__(
        self, run: RunContext, schema: pa.Schema, query_ids: pa.ChunkedArray, state: ResumePoint, reused: int = 0
    ) -> tuple[ResumePoint, list[dict[str, Any]]]:
        if not state.remaining:
            return state, []
        finished = query_ids.filter(state.finished)
        for table in iter_tables(run.candidates, 1000):
            left = table.filter(pc.invert(pc.is_in(table[schemas.QUERY_ID], value_set=finished)))
            if left.num_rows:
                run.sink.write_file([self._rerank(check_batch(left, run.config.input), run.config, schema)], schema)
        return run.sink.prepare(query_ids), [{"engine_start_seconds": []}]

    def _rerank(self, table: pa.Table, config: JobConfig, schema: pa.Schema) -> pa.Table:
        rows = [self._row(row, config) for row in table.to_pylist()]
        for row, each in zip(rows, request_fingerprints(table).to_pylist(), strict=True):
            row["request_fingerprint"] = each
        return schemas.output_table(rows, table, schema)

    def _row(self, row: dict[str, Any], config: JobConfig) -> dict[str, Any]:
        self.reranked.append(row[schemas.QUERY_ID])
        engine = create_engine(config.engine, config.engine_context)

        async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
            self.requests += 1
            return await engine.generate(prompt, params)

        try:
            request = parse_row(row)
        except RowError as error:
            return schemas.unreadable_row(row, str(error))
        result = asyncio.run(rerank_query(request, generate, strategy=config.strategy, policy=config.policy))
        duplicates = len(row[schemas.CANDIDATES]) - len(request.candidates)
        return schemas.output_row(request, result, config.output.keep_reasoning, duplicates)


@dataclasses.dataclass
class LocalRun:
    """A finished run."""

    manifest: dict[str, Any]
    lines: list[str]
    reranked: Sequence[str]
    requests: int


def rerank_locally(monkeypatch: pytest.MonkeyPatch, settings: JobConfig, **options: Any) -> LocalRun:
    """Run the job without Ray and without subprocesses."""
    passes = LocalPasses()
    monkeypatch.setattr("corpus_reranker.run.driver.run_passes", passes)
    monkeypatch.setattr("corpus_reranker.run.driver.write_final_report", lambda *_: None)
    monkeypatch.setattr(IsolatedProcess, "run", lambda self, function, *args, **kwargs: function(*args, **kwargs))
    manifest, lines = rerank(settings, **options)
    return LocalRun(manifest, lines, passes.reranked, passes.requests)
