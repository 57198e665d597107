"""Stages before the replicas wait while enough lies ready for these; replicas, and what is behind them, never do."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.map_operator import MapOperator

from corpus_reranker.dataflow.ray_compat import ReadAheadLimit
from helpers.runs import config, query, rerank, write_input


@pytest.mark.parametrize(("ready", "held"), [(0, False), (3, False), (4, True), (100, True)])
def test_only_what_is_before_the_replicas_waits_for_them(ready: int, held: bool) -> None:
    read, cut, write = (Mock(spec=MapOperator) for _ in range(3))
    replicas = Mock(spec=ActorPoolMapOperator)
    queued = {read: 1000, cut: 1000, replicas: ready, write: 1000}
    topology = {stage: Mock(**{"total_enqueued_input_blocks.return_value": blocks}) for stage, blocks in queued.items()}
    policy = ReadAheadLimit(4, Mock(), topology, Mock())
    assert [policy.can_add_input(stage) for stage in (read, cut)] == [not held, not held]
    assert [policy.max_task_output_bytes_to_read(stage) for stage in (read, cut)] == 2 * [0 if held else None]
    for stage in (replicas, write):
        assert policy.can_add_input(stage)
        assert policy.max_task_output_bytes_to_read(stage) is None


def test_a_plan_without_replicas_waits_for_nothing() -> None:
    """Ray Data reads the checkpoint of a run that is resumed by a plan of its own."""
    read, write = (Mock(spec=MapOperator) for _ in range(2))
    topology = {stage: Mock(**{"total_enqueued_input_blocks.return_value": 1000}) for stage in (read, write)}
    policy = ReadAheadLimit(4, Mock(), topology, Mock())
    for stage in (read, write):
        assert policy.can_add_input(stage)
        assert policy.max_task_output_bytes_to_read(stage) is None


def test_a_run_asks_it_before_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []
    answer = ReadAheadLimit.can_add_input

    def can_add_input(self: ReadAheadLimit, op: PhysicalOperator) -> bool:
        requested.append(op.name)
        return answer(self, op)

    monkeypatch.setattr(ReadAheadLimit, "can_add_input", can_add_input)
    write_input(tmp_path / "in", [query(number) for number in range(12)])
    manifest, _ = rerank(config(tmp_path))
    assert manifest["queries_by_status"] == {"complete": 12}
    for stage in ("Read", "StreamingRepartition", "MapBatches(Reranker)", "Write"):
        assert any(name.startswith(stage) for name in requested)
    context = DataContext.get_current()
    assert context.get_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY) is None  # other plans go by Ray Data's own
