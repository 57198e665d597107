"""The id of a replica's process, and its report to the stats actor."""

import os
import socket
from dataclasses import dataclass, field
from typing import Any

import ray


@dataclass(frozen=True, slots=True)
class ReplicaId:
    """Identifies a replica's process.

    Attributes:
        actor_id: Ray's id of the actor, which stays the same when Ray restarts the actor.
        process: Name of the process, "host:pid". A restarted actor has another one.
        node_id: Ray's id of the node.
        pid: Id of the process on its node.
    """

    actor_id: str
    process: str
    node_id: str = ""
    pid: int = 0

    @classmethod
    def current(cls) -> "ReplicaId":
        """The replica that runs in this Ray actor."""
        context, pid = ray.get_runtime_context(), os.getpid()
        return cls(context.get_actor_id() or "", f"{socket.gethostname()}:{pid}", context.get_node_id(), pid)


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """Current load of one replica. The engine is full at `target_windows_in_flight` windows."""

    replica: ReplicaId
    queries_in_flight: int = 0
    windows_in_flight: int = 0
    target_windows_in_flight: int = 0
    engine_info: dict[str, Any] = field(default_factory=dict)
