"""Ray nodes on this machine, started again if they start too slowly.

A raylet waits 15 s for its agent, and Ray 30 s for the raylet; neither limit can be set, and a busy machine exceeds
both. A raylet that waited in vain has ended.
"""

import tempfile
from typing import Any

import tenacity
from ray.cluster_utils import Cluster

start_again = tenacity.retry(stop=tenacity.stop_after_attempt(4), reraise=True)
"""Repeats a function that starts a node."""


@start_again
def start_cluster(**head: Any) -> Cluster:
    """A cluster whose head node has these arguments; without any, it has no CPUs and no dashboard."""
    return Cluster(initialize_head=True, head_node_args=head or {"num_cpus": 0, "include_dashboard": False})


@start_again
def add_node(cluster: Cluster, **node: Any) -> Any:
    """Add a worker node with these arguments, and return it."""
    return cluster.add_node(**node)


def ray_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder for RAY_TMPDIR. A node that started too slowly may still write to it while it is deleted."""
    return tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
