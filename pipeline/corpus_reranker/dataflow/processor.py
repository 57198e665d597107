"""The Ray Data plan: read, check, repartition into small blocks, rerank on an actor pool, write."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Dataset
from ray.data.datasource import FilenameProvider

from corpus_reranker.config.schema import JobConfig, RerankerConfig
from corpus_reranker.dataflow.candidates import CandidatesDatasource
from corpus_reranker.dataflow.capacity import (
    Blocks,
    ReplicaPlan,
    blocks_in_flight,
    max_windows_in_flight,
    plan_blocks,
    plan_replicas,
)
from corpus_reranker.dataflow.cluster import node_resources
from corpus_reranker.dataflow.placement import ReplicaPlacement
from corpus_reranker.dataflow.ray_compat import (
    WHOLE_BLOCKS,
    buffer_output_blocks,
    limit_read_ahead,
    limit_read_retries,
    map_blocks,
    skip_rows,
)
from corpus_reranker.dataflow.run_services import RunServices
from corpus_reranker.dataflow.worker import RerankWorker
from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import NESTED_INPUT, QUERY_ID
from corpus_reranker.io.settings import RowSettings
from corpus_reranker.io.sinks.base import Sink
from corpus_reranker.io.sources.base import ParquetFiles
from corpus_reranker.io.sources.conversion import convert_batch
from corpus_reranker.io.sources.rows import check_batch, check_shown
from corpus_reranker.io.sources.schema_check import input_schema
from corpus_reranker.types import NOTHING_SHOWN, ShownInput

Reranker: TypeAlias = Callable[[Dataset], Dataset]
"""Maps a dataset with one row per query to the reranked dataset."""

_UPSCALING_THRESHOLD = 1e-6
"""Any block in flight makes the actor pool grow, up to max_replicas and to what the cluster has. Ray Data's default,
1.75 blocks in flight for each that an actor may run at once, is never reached: an actor gets only as many blocks as
it runs, so that no block queues on one replica while another replica is free."""

_QUERIES_PER_BLOCK = 16
"""Block size for an unknown number of queries. A block leaves a replica when its slowest query is done."""

_MAX_TASK_RETRIES = 5
"""Retries of a read or write task whose process died. Ray Data's default is no limit: a page that crashes pyarrow would
be read forever."""

_UNLIMITED = -1
"""Retries of a block whose replica died. All blocks of the replica, waiting ones included, lose a retry at each death,
so the coordinator limits the deaths without progress instead."""

_WRITE_TASK = {"num_cpus": 0, "max_retries": _MAX_TASK_RETRIES}
"""A write must not wait for a CPU. Otherwise, if replicas, reader and filter occupy all CPUs, a resumed run would write
nothing until the whole input is read, and the next crash would lose all results."""

_RAY_CPUS_BESIDE_GPUS = 1.0
"""CPUs that Ray Data reserves for an actor with GPUs and no `num_cpus`."""

_BUFFERED_BLOCKS = 32
"""Output blocks of one task that may wait for the driver, which collects about ten times a second."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The number of replicas at the start of a run, and the blocks in which they get queries."""

    replicas: ReplicaPlan
    blocks: Blocks


class DataFileNames(FilenameProvider):  # type: ignore[misc]
    """Names that no other task and no other attempt of the same task uses, so that a data file never changes."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return f"{self._prefix}{write_uuid}-{task_index:06}-{uuid.uuid4().hex[:8]}.parquet"


def plan_run(config: RerankerConfig, queries: int | None = None) -> RunPlan:
    """Plan replicas and blocks for the cluster as it is now. Ray must be connected.

    Args:
        config: The reranker's config.
        queries: Number of queries. None if it is unknown; a replica can then take more than its share.
    """
    cluster, in_flight = config.cluster, max_windows_in_flight(config)
    replicas = plan_replicas(cluster, config.engine.gpus_per_replica, node_resources())
    if queries is None:
        size = cluster.queries_per_block or _QUERIES_PER_BLOCK
        return RunPlan(replicas, Blocks(size, blocks_in_flight(in_flight, size), queries_per_file=1))
    blocks = plan_blocks(
        queries,
        cluster.max_replica_count,
        in_flight,
        fitting=replicas.fitting,
        queries_per_block=cluster.queries_per_block,
    )
    return RunPlan(replicas, blocks)


def build_reranker(
    config: RerankerConfig, *, rows: RowSettings | None = None, keep_reasoning: bool = False
) -> Reranker:
    """Build a function that reranks a Ray dataset, for use inside any Ray Data pipeline.

    The dataset has one row per query: `query_id`, `query` and `candidates`, a list of structs with `doc_id`,
    `text` and optionally `title` and `score`, in first-stage order. The accepted types are those of input files. Other
    columns pass through. The result has `query_id`, `status`, `ranking`, `windows`, `error`, `started_at`,
    `finished_at`, and the other columns. A query that cannot be reranked becomes a row with status `failed`. A
    dataset without these columns and types raises an error.

    The function changes the dataset's `DataContext`: actor pools grow as soon as a block is in flight, and
    `cluster.max_replica_start_failures` bounds how often an actor may fail to start.

    Args:
        config: Engine, prompt, strategy and replicas.
        rows: Names, types and limits of the rows; None: the section `input` of a JobConfig, else the defaults.
        keep_reasoning: Keep each window's reasoning in the result.

    Returns:
        A function from the dataset to the reranked dataset. Like every Ray Data transform it is lazy.
    """
    if rows is None:
        rows = config.input if isinstance(config, JobConfig) else RowSettings()
    calibration, shown = config.load_calibration(), config.prompt.load_template().shown
    services = RunServices(row_limits=rows, keep_reasoning=keep_reasoning, calibration=calibration)

    def reranked(dataset: Dataset) -> Dataset:
        checked = dataset.map_batches(check_queries, fn_args=(rows, shown), **WHOLE_BLOCKS)
        return _rerank(checked, config.reranker(), plan_run(config), None, services, replica_placement(config))

    return reranked


def replica_placement(config: RerankerConfig) -> ReplicaPlacement | None:
    """Placement groups for replicas that span nodes; None if a replica fits one node."""
    bundles = config.engine.placement_bundles
    return ReplicaPlacement(bundles, config.cluster.cpus_per_replica) if bundles else None


def _rerank(
    dataset: Dataset,
    config: RerankerConfig,
    plan: RunPlan,
    schema: pa.Schema | None,
    services: RunServices,
    placement: ReplicaPlacement | None,
) -> Dataset:
    """Rerank a dataset of queries that `check_batch` has checked."""
    cluster, blocks = config.cluster, plan.blocks
    context = dataset.context
    context.autoscaling_config.actor_pool_util_upscaling_threshold = _UPSCALING_THRESHOLD
    context.max_consecutive_actor_init_deaths = cluster.max_replica_start_failures - 1
    dataset = dataset.repartition(target_num_rows_per_block=blocks.queries_per_block, strict=True)
    return map_blocks(
        dataset,
        RerankWorker,
        fn_constructor_args=(config.dump(), schema, services),
        compute=ActorPoolStrategy(
            min_size=min(cluster.min_replica_count, plan.replicas.initial),
            max_size=cluster.max_replica_count,
            initial_size=plan.replicas.initial,
            max_concurrent_calls_per_actor=blocks.per_replica,
            max_tasks_in_flight_per_actor=blocks.per_replica,
            enable_true_multi_threading=True,
        ),
        **replica_resources(cluster.cpus_per_replica, 0 if placement else config.engine.gpus_per_replica),
        max_task_retries=_UNLIMITED if services.coordinator else cluster.max_replica_deaths,
        actor_options=placement,
    )


def replica_resources(cpus: float, gpus: float) -> dict[str, float]:
    """CPUs and GPUs of a replica's actor, as arguments of `map_batches`.

    Ray Data reserves one CPU for an actor with GPUs by default. If both numbers are set, it logs a warning in every
    run.
    """
    if gpus and cpus == _RAY_CPUS_BESIDE_GPUS:
        return {"num_gpus": gpus}
    return {"num_cpus": cpus, "num_gpus": gpus}


def check_queries(table: pa.Table, rows: RowSettings, shown: ShownInput = NOTHING_SHOWN) -> pa.Table:
    """Give the reranker's columns of a block their names and types, and apply `check_batch`.

    Raises:
        InputError: Names a column that is missing, or has a type that loses information.
    """
    theirs = {name: rows.columns.get(name, name) for name in NESTED_INPUT.names}
    missing = [name for name in theirs.values() if name not in table.column_names]
    if missing:
        raise InputError(
            f"the dataset has no column {', '.join(missing)}; it has {', '.join(table.column_names)}. "
            "The reranker needs one row per query: query_id, query, and candidates, a list of structs with doc_id "
            "and text; give other names with build_reranker(config, rows=RowSettings(columns={query_id: ...}))"
        )
    own = table.select(list(theirs.values()))
    _, schema = input_schema({"the dataset": own.schema}, rows, lambda path, column: False)
    converted = [convert_batch(batch, schema, rows.columns) for batch in own.combine_chunks().to_batches()]
    own = pa.concat_tables([schema.empty_table(), *converted])
    others = table.drop_columns(list(theirs.values()))
    if duplicates := set(own.column_names) & set(others.column_names):
        raise InputError(f"the dataset has another column named {', '.join(sorted(duplicates))}; rename or drop it")
    table = pa.table([*own.columns, *others.columns], schema=pa.schema([*own.schema, *others.schema]))
    check_shown(table.schema, shown)
    return check_batch(table, rows)


def rerank(
    config: JobConfig,
    candidates: ParquetFiles,
    finished: pa.ChunkedArray,
    sink: Sink,
    schema: pa.Schema,
    plan: RunPlan,
    services: RunServices,
) -> None:
    """Rerank every query of `candidates` whose id is not in `finished`, and write the rows to the sink.

    A write task that is retried writes another file; `Sink.prepare` drops the duplicates. Raises what Ray Data raises
    when no replica can start, or when a replica died more often than `cluster.max_replica_deaths` allows.
    """
    cluster, blocks = config.cluster, plan.blocks
    dataset = ray.data.read_datasource(CandidatesDatasource(candidates, services.row_limits))
    limit_read_retries(dataset, _MAX_TASK_RETRIES)
    context = dataset.context
    context.execution_no_progress_timeout_s = -1  # counts blocks, which take hours; the watchdog counts windows
    context.execution_options.preserve_order = False
    context.memory_usage_poll_interval_s = None  # otherwise one thread per block polls the replica's memory
    buffer_output_blocks(context, _BUFFERED_BLOCKS)
    limit_read_ahead(context, blocks.per_replica * cluster.max_replica_count)
    if len(finished):
        skip_rows(context, QUERY_ID, finished)
    placement = replica_placement(config)
    try:
        sink.write(
            _rerank(dataset, config.reranker(), plan, schema, services, placement),
            schema,
            filename_provider=DataFileNames(sink.layout.data_file_prefix),
            min_rows_per_file=blocks.queries_per_file,
            ray_remote_args=_WRITE_TASK,
            concurrency=max(2, cluster.max_replica_count),  # each is a process that takes seconds to start
        )
    finally:
        if placement:
            placement.release()
