"""How far Ray Data cuts ahead of the replicas: no further than they need, so that what waits for them does not grow
with the input.

Left alone, Ray Data (2.60) holds a stage back only when half of the object store is full. Until then it cuts all of the
input into blocks, and those that are small lie in the driver's own memory: some 300 MB of a million short queries. Its
own knob, RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD, is for all stages alike, and then replicas
stand idle whenever the writes behind them are slow.
"""

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.resource_manager import ResourceManager
from ray.data._internal.execution.streaming_executor_state import Topology


class ReadAheadLimit(BackpressurePolicy):  # type: ignore[misc]
    """Stages before the replicas begin no task, and give no block on, while `blocks` lie ready for a replica."""

    def __init__(self, blocks: int, context: DataContext, topology: Topology, resources: ResourceManager) -> None:
        super().__init__(context, topology, resources)
        stages = list(topology)  # in the order in which blocks go through them
        pools = (index for index, stage in enumerate(stages) if isinstance(stage, ActorPoolMapOperator))
        index = next(pools, 0)  # none in the plan by which Ray Data reads the checkpoint
        self._before = frozenset(stages[:index])
        self._ready = topology[stages[index]].total_enqueued_input_blocks
        self._blocks = blocks

    def can_add_input(self, op: PhysicalOperator) -> bool:
        """Whether this stage may begin a task now."""
        return not self._waits(op)

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        """How much the stage's tasks may give on now; None: all they have. One task cuts some hundred MB of input."""
        return 0 if self._waits(op) else None

    def _waits(self, op: PhysicalOperator) -> bool:
        return op in self._before and self._ready() >= self._blocks
