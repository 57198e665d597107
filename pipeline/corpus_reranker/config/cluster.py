"""Config section `cluster`."""

from pydantic import Field, model_validator

from corpus_reranker.section import Section


class ClusterConfig(Section):
    """Number of replicas, load per replica, and limits on failures."""

    replicas: int | None = Field(
        None, ge=1, description="Fixed number of replicas. Alternative to min_replicas and max_replicas."
    )
    min_replicas: int = Field(1, ge=1, description="Number of replicas at the start.")
    max_replicas: int | None = Field(
        None, ge=1, description="Maximum number of replicas. The pool grows while queries wait. None: min_replicas."
    )
    cpus_per_replica: float = Field(1.0, ge=0, description="CPUs that Ray reserves for a replica.")
    queries_in_flight: int | None = Field(
        None, ge=1, description="Queries in flight per replica. None: enough to fill the engine, plus an eighth."
    )
    queries_per_block: int | None = Field(
        None,
        ge=1,
        description="Queries per block. A block is written as a whole. None: 1 to 256, by the size of the run.",
    )
    max_replica_start_failures: int = Field(
        3, ge=1, description="Consecutive failed replica starts after which the run fails."
    )
    max_block_retries: int = Field(20, ge=0, description="Maximum number of retries of a block whose replica died.")
    no_progress_timeout_seconds: float = Field(
        86400.0, gt=0, description="The run fails if no block finishes for this long."
    )
    progress_seconds: float = Field(10.0, gt=0, description="Interval between two progress lines in the log.")
    event_log: str | None = Field(
        None,
        description='Where to log events of windows, queries and starts as JSON lines: "stderr", or a folder on every '
        "node. None: nowhere.",
    )

    @model_validator(mode="after")
    def _replica_counts(self) -> "ClusterConfig":
        if self.replicas is not None and self.max_replicas is not None:
            raise ValueError("give either replicas, or min_replicas and max_replicas")
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self

    @property
    def min_replica_count(self) -> int:
        """Number of replicas at the start, whichever keys are set."""
        return self.replicas or self.min_replicas

    @property
    def max_replica_count(self) -> int:
        """Maximum number of replicas, whichever keys are set."""
        return self.replicas or self.max_replicas or self.min_replicas
