"""Private parts of Ray Data: the stages that wait for the replicas, and the behaviour if Ray lacks one of the parts."""

import logging
from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pytest
from ray._private import worker
from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.execution.streaming_executor_state import IdleDetector

from corpus_reranker.dataflow import ray_compat
from corpus_reranker.dataflow.ray_compat import (
    ReadAheadLimit,
    allow_idle_stages,
    buffer_output_blocks,
    limit_read_ahead,
    limit_read_retries,
    map_blocks,
    shorten_messages,
    skip_rows,
)
from helpers.runs import config, query, rerank, write_input


@pytest.mark.parametrize(("waiting", "limited"), [(0, False), (3, False), (4, True), (100, True)])
def test_only_stages_before_the_replicas_are_limited(waiting: int, limited: bool) -> None:
    read, repartition, write = (Mock(spec=MapOperator) for _ in range(3))
    finished_filter, replicas = (Mock(spec=ActorPoolMapOperator) for _ in range(2))
    queued = {read: 1000, finished_filter: 0, repartition: 1000, replicas: waiting, write: 1000}
    upstream = (read, finished_filter, repartition)
    topology = {stage: Mock(**{"total_enqueued_input_blocks.return_value": blocks}) for stage, blocks in queued.items()}
    policy = ReadAheadLimit(4, Mock(), topology, Mock())
    assert [policy.can_add_input(stage) for stage in upstream] == 3 * [not limited]
    assert [policy.max_task_output_bytes_to_read(stage) for stage in upstream] == 3 * [0 if limited else None]
    for stage in (replicas, write):
        assert policy.can_add_input(stage)
        assert policy.max_task_output_bytes_to_read(stage) is None


def test_no_stage_of_a_plan_without_replicas_is_limited() -> None:
    read, write = (Mock(spec=MapOperator) for _ in range(2))
    topology = {stage: Mock(**{"total_enqueued_input_blocks.return_value": 1000}) for stage in (read, write)}
    policy = ReadAheadLimit(4, Mock(), topology, Mock())
    for stage in (read, write):
        assert policy.can_add_input(stage)
        assert policy.max_task_output_bytes_to_read(stage) is None


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_consults_the_limit_at_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    max_retries: dict[str, int | None] = {}
    original = ReadAheadLimit.can_add_input

    def can_add_input(self: ReadAheadLimit, op: PhysicalOperator) -> bool:
        max_retries[op.name] = op._ray_remote_args.get("max_retries") if isinstance(op, MapOperator) else None
        return original(self, op)

    monkeypatch.setattr(ReadAheadLimit, "can_add_input", can_add_input)
    write_input(tmp_path / "in", [query(number) for number in range(12)])
    manifest, _ = rerank(config(tmp_path))
    assert manifest["queries_by_status"] == {"complete": 12}
    for stage in ("Read", "StreamingRepartition", "MapBatches(RerankWorker)", "Write"):
        assert any(name.startswith(stage) for name in max_retries)
    bounded = {name: retries for name, retries in max_retries.items() if name.startswith(("Read", "Write"))}
    assert set(bounded.values()) == {5}
    context = DataContext.get_current()
    assert context.get_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY) is None  # other datasets keep Ray Data's own
    assert context.autoscaling_config.actor_pool_util_upscaling_threshold > 1


def test_ray_without_backpressure_policies_reads_without_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_compat, "_BACKPRESSURE_MISSING", ImportError("no module backpressure_policy"))
    context = DataContext()
    with caplog.at_level(logging.WARNING):
        limit_read_ahead(context, 4)
    assert context.get_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY) is None
    assert "has no backpressure policies (no module backpressure_policy)" in caplog.text


def test_ray_without_checkpoint_managers_skips_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_compat, "_CHECKPOINT_MANAGER_MISSING", ImportError("cannot import CheckpointManager"))
    context = DataContext()
    with caplog.at_level(logging.WARNING):
        skip_rows(context, "query_id", pa.chunked_array([["q0"]]))
    assert context.checkpoint_config is None
    assert "has no CheckpointManager (cannot import CheckpointManager)" in caplog.text


def test_ray_without_the_buffer_size_keeps_the_default(caplog: pytest.LogCaptureFixture) -> None:
    context = Mock(spec=["target_max_block_size"])
    with caplog.at_level(logging.WARNING):
        buffer_output_blocks(context, 32)
    assert not hasattr(context, "_max_num_blocks_in_streaming_gen_buffer")
    assert "_max_num_blocks_in_streaming_gen_buffer" in caplog.text


def test_ray_without_task_options_of_reads_retries_them_without_limit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        limit_read_retries(Mock(spec=["context"]), 5)
    assert "has no ray_remote_args in the plan of a read" in caplog.text


def test_ray_without_the_internal_map_batches_uses_the_public_one(caplog: pytest.LogCaptureFixture) -> None:
    dataset = Mock(spec=["map_batches"])
    with caplog.at_level(logging.WARNING):
        assert map_blocks(dataset, dict, max_task_retries=20, num_gpus=1) is dataset.map_batches.return_value
    assert dataset.map_batches.call_args.kwargs["num_gpus"] == 1
    assert "replica died is retried without limit" in caplog.text


def test_ray_does_not_warn_of_stages_that_wait_for_replicas(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(IdleDetector, "WARN_ON_IDLE_TIME_S", 60.0)
    monkeypatch.setattr(IdleDetector, "_warn_printed", False)
    monkeypatch.setattr(logging.getLogger("ray.data"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        allow_idle_stages()
        IdleDetector.print_warning_if_idle_for_too_long("Input", 86_400.0)
        assert caplog.text == ""
        IdleDetector.WARN_ON_IDLE_TIME_S = 60.0
        IdleDetector.print_warning_if_idle_for_too_long("Input", 86_400.0)
    assert "Input is running but has no outputs" in caplog.text


def test_a_ray_without_the_limit_of_idle_stages_keeps_its_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(IdleDetector, "WARN_ON_IDLE_TIME_S")
    with caplog.at_level(logging.WARNING):
        allow_idle_stages()
    assert "has no IdleDetector.WARN_ON_IDLE_TIME_S" in caplog.text


def test_errors_of_other_processes_are_one_line_each(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that failed to start three times printed 200 lines, and a lost head node the log of its raylet."""
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    shorten_messages()
    for number in range(3):
        for first_line in (
            f"{number} workers were killed due to memory pressure:",
            "Raylet is terminated. Last 20 lines of its log:",
            "Task f failed. There are infinite retries remaining. Error: Traceback (most recent call last):",
        ):
            data = {"lines": [f"{first_line}\n" + "    a line\n" * 20], "pid": "raylet", "is_err": False}
            worker.print_to_stdstream(data, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    oom, lost = caplog.messages
    assert oom == "Ray: 0 workers were killed due to memory pressure:"
    assert "run the same command again" in lost
