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
        None, ge=1, description="Queries in flight per replica. None: enough to fill the engine, and an eighth more."
    )
    queries_per_block: int | None = Field(
        None,
        ge=1,
        description="Queries per block. A block is written as a whole. None: 1 to 256, by the size of the run.",
    )
    max_replica_start_failures: int = Field(
        3, ge=1, description="Consecutive failed replica starts after which the run fails."
    )
    max_replica_deaths: int = Field(
        20,
        ge=0,
        description="Maximum number of deaths of a replica's process without an answered window in between. After "
        "more deaths, the run fails and restarts.",
    )
    replica_timeout_seconds: float = Field(
        300.0,
        gt=0,
        description="A replica that has not reported for this long counts as hung: its process is killed, and a new "
        "process takes over its queries.",
    )
    placement_timeout_seconds: float = Field(
        1800.0,
        gt=0,
        description="The run ends with exit code 5 if, for this long, it has no replica and no node has enough free "
        "resources for one.",
    )
    no_progress_timeout_seconds: float | None = Field(
        None,
        gt=0,
        description="The run fails if no window is answered, no query is finished and no engine starts for this long. "
        "None: policy.window_timeout_seconds plus 15 minutes.",
    )
    max_restarts: int = Field(
        8,
        ge=0,
        description="Maximum number of restarts of a run that fails for a transient reason: an unavailable store, a "
        "lost node, a full disk, an error in Ray. A finished query resets the count, up to 100 restarts in all. The "
        "delay before a restart grows from 10 s to 10 min.",
    )
    progress_seconds: float = Field(10.0, gt=0, description="Interval between two progress lines in the log.")
    event_log: str | None = Field(
        None,
        description='Destination of events of windows, queries and starts, as JSON Lines: "stderr", or a folder on '
        "every node. None: no events.",
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
