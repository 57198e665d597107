"""The actor class of a replica, in this process and without Ray's actors."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corpus_reranker.dataflow import worker
from corpus_reranker.dataflow.processor import check_queries
from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import RowSettings
from helpers.runs import config, query
from helpers.stats_actor import FakeStatsActor


@pytest.mark.parametrize("block_rows", [1, 3])
def test_an_idle_replica_has_reported_all_its_queries(
    block_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Data ends an idle replica at the end of the input, before its next periodic report."""

    async def never(*_: Any) -> None:
        pass

    monkeypatch.setattr(worker, "report_periodically", never)
    monkeypatch.setattr(ReplicaId, "current", lambda: ReplicaId("actor", "host:1"))
    stats_actor = FakeStatsActor()
    reranker = worker.RerankWorker(config(tmp_path).reranker().dump(), None, RunServices(stats_actor=stats_actor))
    rows = [query(0, query=" "), *(query(number) for number in (1, 2, 3))]
    for start in range(0, len(rows), block_rows):
        block = pa.Table.from_pylist(rows[start : start + block_rows], NESTED_INPUT)
        reranker(check_queries(block, RowSettings()))
    assert stats_actor.counts["queries_complete"] == 3
    assert stats_actor.counts["queries_failed"] == 1
    assert stats_actor.last is not None
    assert stats_actor.last.queries_in_flight == stats_actor.last.windows_in_flight == 0
