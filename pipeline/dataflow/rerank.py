"""The plan: read, cut into small blocks, rerank, write. Nothing else, so that Ray Data's checkpoints can resume it."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray.data
from pyarrow.fs import FileSystem
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig

from pipeline.config import JobConfig
from pipeline.dataflow.reranker import Reranker
from pipeline.dataflow.tally import Tally

_SLACK = 0.25
"""More blocks on a replica than its places ask for. A block leaves when its slowest query is done: until then its
other places would stand empty, so that one slow query would cost a whole block of them."""

_ROWS_OF_A_BLOCK_AT_ONCE = 16
"""RAY_DATA_DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY of ray/data/_internal/planner/plan_udf_map_op.py, 2.60."""


def blocks_per_replica(queries_in_flight: int, queries_per_block: int) -> int:
    """Blocks a replica works on at once so that `queries_in_flight` places stay full beside slow queries."""
    needed = math.ceil(queries_in_flight / min(queries_per_block, _ROWS_OF_A_BLOCK_AT_ONCE))
    return needed + max(2, math.ceil(needed * _SLACK))


def rerank(
    config: JobConfig,
    input_files: Sequence[str],
    input_filesystem: FileSystem,
    output_folder: str,
    output_filesystem: FileSystem,
    checkpoint_folder: str,
    schema: pa.Schema,
    tally: "ActorHandle[Tally]",
) -> None:
    """Rerank every query of `input_files` (nested form) that no checkpoint in `checkpoint_folder` holds.

    Writes Parquet of `schema` into `output_folder`, each block once: data files and checkpoints commit together
    (Ray Data's two-phase commit). Raises what Ray Data raises when a replica cannot start or a block was lost
    more often than `cluster.max_block_retries`.
    """
    cluster = config.cluster
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="query_id",
        checkpoint_path=checkpoint_folder,
        override_filesystem=output_filesystem,
        delete_checkpoint_on_success=False,
    )
    context.max_consecutive_actor_init_deaths = cluster.max_replica_start_failures - 1
    context.execution_no_progress_timeout_s = cluster.no_progress_timeout_seconds
    context.execution_options.preserve_order = False
    blocks = blocks_per_replica(cluster.queries_in_flight, cluster.queries_per_block)
    pool: dict[str, Any] = (
        {"size": cluster.replicas}
        if cluster.replicas
        else {"min_size": cluster.min_replicas, "max_size": cluster.max_replicas or cluster.min_replicas}
    )
    try:
        dataset = ray.data.read_parquet(list(input_files), filesystem=input_filesystem)
        dataset = dataset.repartition(target_num_rows_per_block=cluster.queries_per_block, strict=True)
        dataset = dataset.map(
            Reranker,
            fn_constructor_args=(config.dump(), tally),
            compute=ActorPoolStrategy(
                **pool, max_concurrent_calls_per_actor=blocks, max_tasks_in_flight_per_actor=blocks
            ),
            num_cpus=cluster.cpus_per_replica,
            num_gpus=config.engine.gpus_per_replica,
            max_task_retries=cluster.max_block_retries,
        )
        dataset.write_parquet(output_folder, filesystem=output_filesystem, schema=schema)
    finally:
        context.checkpoint_config = None
