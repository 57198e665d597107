"""The machines a trial breaks: Ray nodes that can lose their raylet, a disk that fills up, an S3 that goes away."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ray.cluster_utils import Cluster

CPUS_PER_NODE = 4


class Nodes:
    """A Ray cluster on this machine: a head node, and worker nodes beside it. It outlives the drivers."""

    def __init__(self, workers: int = 0) -> None:
        self._workers = workers
        self._start()

    def _start(self) -> None:
        arguments = {"num_cpus": CPUS_PER_NODE, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=arguments)
        self._added = [self._cluster.add_node(num_cpus=CPUS_PER_NODE) for _ in range(self._workers)]

    @property
    def environment(self) -> dict[str, str]:
        return {"RAY_ADDRESS": str(self._cluster.address)}

    def kill_worker_raylet(self) -> None:
        """SIGKILL; another node takes its place, as an autoscaler would have it."""
        _raylet(self._added.pop()).kill()
        self._added.append(self._cluster.add_node(num_cpus=CPUS_PER_NODE))

    def kill_head_raylet(self) -> None:
        """SIGKILL. The cluster is lost; `restart` makes another."""
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
def nodes(workers: int = 0) -> Iterator[Nodes]:
    """A Ray cluster while the context lasts."""
    running = Nodes(workers)
    try:
        yield running
    finally:
        running.stop()


class SmallDisk:
    """A file system of a few megabytes (tmpfs, needs root) that `fill` leaves no byte of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._balloon = folder / "_balloon"

    def fill(self) -> None:
        with self._balloon.open("ab", buffering=0) as balloon:
            for size in (2**16, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        balloon.write(b"\0" * size)

    def free(self) -> None:
        self._balloon.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int = 4 * 2**20) -> Iterator[SmallDisk]:
    """Mounted while the context lasts. Raises CalledProcessError where that is not allowed."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
