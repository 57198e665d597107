"""Kills the process of a replica from outside, by a task on the same node."""

import os
import signal
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from corpus_reranker.dataflow.replica import ReplicaId

_TASK_SECONDS = 60.0
"""Timeout of the task: Ray starts a worker process for it."""


def kill_replica(replica: ReplicaId) -> bool:
    """Send SIGKILL to the replica's process, which may be stopped or blocked. Ray restarts the actor.

    Returns:
        Whether the signal was sent; False if the process has ended.

    Raises:
        RayError: The node is lost or does not answer.
    """
    here = NodeAffinitySchedulingStrategy(replica.node_id, soft=False)
    task = ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
    killed: bool = ray.get(task.remote(replica.pid), timeout=_TASK_SECONDS)
    return killed


def _kill(pid: int) -> bool:
    try:
        if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):  # the id now belongs to another program
            return False
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True
