"""The report of a replica to the stats actor."""

import os
import socket
from dataclasses import dataclass, field
from typing import Any

import ray


@dataclass(frozen=True, slots=True)
class ReplicaId:
    """`actor_id` stays the same when Ray restarts the actor; `process` ("host:pid") does not."""

    actor_id: str
    process: str
    node_id: str = ""

    @classmethod
    def current(cls) -> "ReplicaId":
        """The replica that runs in this Ray actor."""
        context = ray.get_runtime_context()
        return cls(context.get_actor_id() or "", f"{socket.gethostname()}:{os.getpid()}", context.get_node_id())


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """Current load of one replica. The engine is full at `target_windows_in_flight` windows."""

    replica: ReplicaId
    queries_in_flight: int = 0
    windows_in_flight: int = 0
    target_windows_in_flight: int = 0
    engine_info: dict[str, Any] = field(default_factory=dict)
