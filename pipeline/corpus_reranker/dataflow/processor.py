"""The plan: read, cut into small blocks, rerank, write. Nothing else, so that Ray Data's checkpoints can resume it."""

import warnings
from functools import partial

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import FilenameProvider
from ray.util.annotations import RayDeprecationWarning

from corpus_reranker.config.schema import ClusterConfig, JobConfig
from corpus_reranker.dataflow.capacity import Blocks
from corpus_reranker.dataflow.ray_compat import ReadAheadLimit
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.dataflow.worker import RerankWorker
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.sinks.output import Output
from corpus_reranker.io.sources.parquet import Input
from corpus_reranker.io.sources.rows import check_batch

_WRITE = {"num_cpus": 0}
"""Of a write task. If it had to wait for a CPU, a resumed run on a cluster that is full with replicas, the reader and
the filter of finished queries would write nothing until all is read, and lose all of it to the next crash."""

_CUT_AT_ONCE = 32
"""Blocks that a task which cuts a file has ready. Ray Data collects them some ten times a second, and with its default
of 2 a file gives no more than ten blocks a second: too few when many replicas begin."""


class DataFileNames(FilenameProvider):  # type: ignore[misc]
    """part-*.parquet: the write's id keeps the files of a resumed run apart from those before."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return f"part-{write_uuid}-{task_index:06}.parquet"


def rerank(
    config: JobConfig,
    nested: Input,
    output: Output,
    schema: pa.Schema,
    blocks: Blocks,
    run: RunServices,
) -> None:
    """Rerank every query of `nested` that the output's checkpoint does not hold.

    Writes Parquet of `schema`, each block once: data files and checkpoints commit together (Ray Data's two-phase
    commit). Raises what Ray Data raises when no replica can start or a block was lost more often than
    `cluster.max_block_retries`.
    """
    cluster = config.cluster
    context = DataContext.get_current()
    context.max_consecutive_actor_init_deaths = cluster.max_replica_start_failures - 1
    context.execution_no_progress_timeout_s = cluster.no_progress_timeout_seconds
    context.execution_options.preserve_order = False
    context._max_num_blocks_in_streaming_gen_buffer = _CUT_AT_ONCE
    context.memory_usage_poll_interval_s = None  # a thread for each block that looks at the replica's memory
    read_ahead = partial(ReadAheadLimit, blocks.per_replica * cluster.max_replica_count)
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, read_ahead])
    context.checkpoint_config = CheckpointConfig(
        id_column=QUERY_ID,
        checkpoint_path=output.checkpoint_folder,
        override_filesystem=output.filesystem,
        delete_checkpoint_on_success=False,
    )
    try:
        dataset = ray.data.read_parquet(
            nested.paths,
            filesystem=nested.filesystem,
            partitioning=None,  # else a folder's name such as dt=2026-11-25 becomes a column
        )
        dataset = dataset.map_batches(
            check_batch, fn_args=(config.input,), batch_size=None, batch_format="pyarrow", zero_copy_batch=True
        )
        dataset = dataset.repartition(target_num_rows_per_block=blocks.queries_per_block, strict=True)
        with warnings.catch_warnings():
            # max_task_retries has no parameter of its own yet (2.60), and its default is to retry for ever
            warnings.simplefilter("ignore", RayDeprecationWarning)
            dataset = dataset.map_batches(
                RerankWorker,
                batch_size=None,  # a block a call
                batch_format="pyarrow",
                zero_copy_batch=True,
                fn_constructor_args=(config.dump(), schema, run),
                compute=_pool(cluster, blocks.per_replica),
                num_cpus=cluster.cpus_per_replica,
                num_gpus=config.engine.gpus_per_replica,
                max_task_retries=cluster.max_block_retries,
            )
        dataset.write_parquet(
            output.folder,
            filesystem=output.filesystem,
            schema=schema,
            filename_provider=DataFileNames(),
            min_rows_per_file=blocks.queries_per_file,
            ray_remote_args=_WRITE,
            concurrency=max(2, cluster.max_replica_count),  # each is a process, which takes seconds to start
        )
    finally:
        context.checkpoint_config = None
        context.remove_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY)


def _pool(cluster: ClusterConfig, blocks: int) -> ActorPoolStrategy:
    return ActorPoolStrategy(
        min_size=cluster.min_replica_count,
        max_size=cluster.max_replica_count,
        max_concurrent_calls_per_actor=blocks,
        max_tasks_in_flight_per_actor=blocks,
        enable_true_multi_threading=True,  # the worker is called from one thread per block
    )
