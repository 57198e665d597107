"""All use of private APIs of Ray and Ray Data. No other module imports `ray._private` or `ray.data._internal`, or sets
a field of Ray's that begins with an underscore.

Each use is behind a feature check: without the feature the job still works, and the log says what is missing and what
the effect is.
Written for Ray 2.60.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset

try:
    from ray.data._internal.execution.backpressure_policy import (
        ENABLED_BACKPRESSURE_POLICIES,
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    )
    from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
    from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

    _BACKPRESSURE_MISSING: ImportError | None = None
except ImportError as error:
    BackpressurePolicy = object
    _BACKPRESSURE_MISSING = error

try:
    from corpus_reranker.dataflow.checkpoint import FinishedRows

    _CHECKPOINT_MANAGER_MISSING: ImportError | None = None
except ImportError as error:
    _CHECKPOINT_MANAGER_MISSING = error

_NUMBERS = re.compile(r"[0-9a-f]{8,}|\d+")
_RETRIED = "retries remaining"
_RAYLET_DIED = (
    "the raylet of a node has died; if it is the driver's node, Ray ends this process: start a new cluster and run the"
    " same command again"
)
_MAX_LINE_CHARS = 300
_MAX_KINDS = 20

logger = logging.getLogger(__name__)


def _log_missing(what: str, consequence: str) -> None:
    logger.warning("Ray %s has no %s: %s", ray.__version__, what, consequence)


WHOLE_BLOCKS: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
"""Arguments of `Dataset.map_batches` for a function of whole blocks."""


def map_blocks(
    dataset: Dataset,
    fn: type,
    *,
    max_task_retries: int,
    actor_options: Callable[[], dict[str, Any]] | None = None,
    **options: Any,
) -> Dataset:
    """`Dataset.map_batches` over whole blocks, with options that the public method does not have.

    The public method refuses GPUs without a batch size, and announces the removal of `**ray_remote_args` and
    `ray_remote_args_fn` in Ray 2.64 without a substitute for the two options here.

    Args:
        dataset: The input.
        fn: Callable class, constructed once in each actor.
        max_task_retries: Maximum number of retries of a block whose actor died. Ray Data's default is no limit.
        actor_options: Called before each actor starts; returns further options of it.
        options: Other arguments of `map_batches`.
    """
    options = {**WHOLE_BLOCKS, **options, "ray_remote_args_fn": actor_options}
    map_batches = getattr(dataset, "map_batches_internal", None)
    if map_batches is None:
        _log_missing("Dataset.map_batches_internal", "a block whose replica died is retried without limit")
        return dataset.map_batches(fn, **options)
    return map_batches(fn, max_task_retries=max_task_retries, **options)


def limit_read_retries(dataset: Dataset, max_retries: int) -> None:
    """Retry a read task whose process died at most `max_retries` times. Ray Data's default is no limit.

    `read_datasource(ray_remote_args=...)` does the same, and is removed in Ray 2.64 without a substitute.
    """
    read = getattr(getattr(dataset, "_logical_plan", None), "dag", None)
    task_options = getattr(read, "ray_remote_args", None)
    if not isinstance(task_options, dict):
        _log_missing("ray_remote_args in the plan of a read", "a file that crashes its reader is read forever")
        return
    task_options["max_retries"] = max_retries


def skip_rows(context: DataContext, id_column: str, ids: pa.ChunkedArray) -> None:
    """Drop the rows with these ids before the first stage of a dataset that is written, through its checkpoint.

    `CheckpointConfig.checkpoint_manager_cls` is public, but beta.
    """
    if _CHECKPOINT_MANAGER_MISSING is not None:
        _log_missing(f"CheckpointManager ({_CHECKPOINT_MANAGER_MISSING})", "finished queries are reranked again")
        return
    context.checkpoint_config = FinishedRows(id_column, ids)


def free_resources() -> list[dict[str, float]]:
    """The free resources of each live node."""
    try:
        from ray._private.state import available_resources_per_node

        return list(available_resources_per_node().values())
    except (ImportError, AttributeError):
        _log_missing("_private.state.available_resources_per_node", "a node in use looks free")
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class FirstLines:
    """Logs the first line of each kind of message; messages that differ only in numbers and ids are of one kind.

    Messages about retries are not logged: if the retries fail as well, the error of the run has the reason.
    """

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def __call__(self, data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        """Takes the arguments of `print_to_stdstream`."""
        for message in data["lines"]:
            line = message.strip().partition("\n")[0][:_MAX_LINE_CHARS]
            kind = _NUMBERS.sub("#", line)
            if line and _RETRIED not in line and kind not in self._kinds and len(self._kinds) < _MAX_KINDS:
                self._kinds.add(kind)
                logger.warning("Ray: %s", _RAYLET_DIED if line.startswith("Raylet is terminated") else line)


def shorten_messages() -> None:
    """Log only the first line of each kind of error that Ray's processes report, and only once.

    Ray prints them on the driver's stdout as `(raylet) ...`, regardless of `log_to_driver`: the stack of each
    failed engine start, the log of a lost node.
    """
    from ray._private import worker

    if not hasattr(worker, "print_to_stdstream"):
        _log_missing("_private.worker.print_to_stdstream", "Ray prints all lines of errors of other processes")
    elif not isinstance(worker.print_to_stdstream, FirstLines):
        worker.print_to_stdstream = FirstLines()


def buffer_output_blocks(context: DataContext, blocks: int) -> None:
    """Allow a task to buffer `blocks` of its output until the driver collects them.

    The driver collects about ten times a second. With Ray Data's default of 2, one task that splits a file
    yields up to 20 blocks per second: too few when many replicas start.
    """
    if not hasattr(context, "_max_num_blocks_in_streaming_gen_buffer"):
        _log_missing("DataContext._max_num_blocks_in_streaming_gen_buffer", "many replicas may start slowly")
        return
    context._max_num_blocks_in_streaming_gen_buffer = blocks


def limit_read_ahead(context: DataContext, blocks: int) -> None:
    """Stop reading while `blocks` wait for the replicas, so that memory does not grow with the input.

    By default, Ray Data applies backpressure only when half of the object store is full. Until then it splits all
    of the input into blocks, and small blocks are kept in the driver's memory: 300 MB for a million short queries.
    Ray Data's own setting, RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD, applies to every stage,
    so that replicas would be idle whenever writes are slow.
    """
    if _BACKPRESSURE_MISSING is not None:
        _log_missing(f"backpressure policies ({_BACKPRESSURE_MISSING})", "reading may fill the object store")
        return
    policies = [*ENABLED_BACKPRESSURE_POLICIES, partial(ReadAheadLimit, blocks)]
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)


def allow_idle_stages() -> None:
    """Turn off the warning "Operator ... is running but has no outputs for 60 seconds".

    `limit_read_ahead` holds the stages before the replicas for as long as blocks wait, so Ray Data warns of them in
    every run of a few minutes. Ray Data has no setting for this warning. The watchdog reports replicas that finish no
    window.
    """
    try:
        from ray.data._internal.execution.streaming_executor_state import IdleDetector

        IdleDetector.WARN_ON_IDLE_TIME_S  # noqa: B018
    except (ImportError, AttributeError):
        _log_missing("IdleDetector.WARN_ON_IDLE_TIME_S", "it may warn that stages before busy replicas have no outputs")
        return
    IdleDetector.WARN_ON_IDLE_TIME_S = math.inf


class ReadAheadLimit(BackpressurePolicy):  # type: ignore[misc]
    """Stages before the replicas start no task and emit no block while `blocks` blocks wait for a replica."""

    def __init__(self, blocks: int, context: DataContext, topology: Any, resources: Any) -> None:
        super().__init__(context, topology, resources)
        stages = list(topology)  # in the order in which blocks pass through them
        pools = [index for index, stage in enumerate(stages) if isinstance(stage, ActorPoolMapOperator)]
        index = pools[-1] if pools else 0  # the pool before the replicas filters out finished queries
        self._upstream = frozenset(stages[:index])
        self._num_waiting = topology[stages[index]].total_enqueued_input_blocks
        self._blocks = blocks

    def can_add_input(self, op: Any) -> bool:
        """Whether this stage may start a task now."""
        return not self._holds(op)

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        """Bytes that the stage's tasks may emit now; None: no limit. One task can split hundreds of MB of input."""
        return 0 if self._holds(op) else None

    def _holds(self, op: Any) -> bool:
        return op in self._upstream and self._num_waiting() >= self._blocks
