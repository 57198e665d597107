"""Targets of faults: Ray nodes that can lose their raylet, and a disk that can fill up."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from helpers.ray_cluster import add_node, start_cluster

CPUS_PER_NODE = 4


class Nodes:
    """A Ray cluster on this machine, with a head node and worker nodes. It outlives the drivers."""

    def __init__(self, workers: int = 0) -> None:
        self._workers = workers
        self._start()

    def _start(self) -> None:
        self._cluster = start_cluster(num_cpus=CPUS_PER_NODE, include_dashboard=False)
        self._added = [add_node(self._cluster, num_cpus=CPUS_PER_NODE) for _ in range(self._workers)]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a driver that connects to this cluster."""
        return {"RAY_ADDRESS": str(self._cluster.address)}

    def kill_worker_raylet(self) -> None:
        """Send SIGKILL to a worker node's raylet, and add another node, as an autoscaler does."""
        _raylet(self._added.pop()).kill()
        self._added.append(add_node(self._cluster, num_cpus=CPUS_PER_NODE))

    def lose_worker(self) -> bool:
        """Send SIGKILL to a worker node's raylet. No node takes its place. Returns whether there was one."""
        if self._added:
            _raylet(self._added.pop()).kill()
            return True
        return False

    def replace_lost(self) -> None:
        """Add the worker nodes that are missing."""
        while len(self._added) < self._workers:
            self._added.append(add_node(self._cluster, num_cpus=CPUS_PER_NODE))

    def kill_head_raylet(self) -> None:
        """Send SIGKILL to the head node's raylet. The cluster is lost; `restart` starts another."""
        _raylet(self._cluster.head_node).kill()

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self._cluster.shutdown()


def _raylet(node: object) -> "subprocess.Popen[bytes]":
    process: subprocess.Popen[bytes] = node.all_processes["raylet"][0].process  # type: ignore[attr-defined]
    return process


@contextlib.contextmanager
def running_nodes(workers: int = 0) -> Iterator[Nodes]:
    """A Ray cluster that stops when the context exits."""
    nodes = Nodes(workers)
    try:
        yield nodes
    finally:
        nodes.stop()


class SmallDisk:
    """A file system of a few megabytes that `fill` fills to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "_filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            for size_bytes in (2**16, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"\0" * size_bytes)

    def free(self) -> None:
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int = 4 * 2**20) -> Iterator[SmallDisk]:
    """Mount a tmpfs at `folder` until the context exits. Needs root.

    Raises:
        subprocess.CalledProcessError: The mount is not allowed.
    """
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
