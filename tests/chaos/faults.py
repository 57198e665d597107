"""The faults that `make chaos` injects. Each is a `Fault` of attempt.py, or a function that returns one."""

import contextlib
import os
import signal
import subprocess
import time

from attempt import Fault, Target
from machines import Nodes, SmallDisk

from helpers.fault_proxy import FaultProxy, RequestKind
from helpers.rerank_process import HangError, rerank_process

STOP_SECONDS = 3.0
"""Between SIGTERM and SIGKILL of `ray job stop` (RAY_JOB_STOP_WAIT_TIME_S of ray/dashboard/modules/job/utils)."""

S3_OUTAGE_SECONDS = 60.0
DISK_FULL_SECONDS = 10.0


def kill_driver(target: Target) -> bool:
    target.process.kill(signal.SIGKILL)
    target.process.wait()
    return True


def stop_driver(target: Target) -> bool:
    """Stop the driver as `ray job stop` does."""
    target.process.kill(signal.SIGTERM)
    with contextlib.suppress(HangError):
        target.process.wait(STOP_SECONDS)
    if target.process.running():
        target.process.kill(signal.SIGKILL)
        target.process.wait()
    return True


def kill_replica(target: Target) -> bool:
    return _signal_replica(target, signal.SIGKILL)


def stop_replica(target: Target) -> bool:
    """Stop the process of a replica: it hangs, and closes no connection."""
    return _signal_replica(target, signal.SIGSTOP)


def lose_worker(nodes: Nodes) -> Fault:
    """Lose a worker node for good."""

    def inject(target: Target) -> bool:
        return nodes.lose_worker()

    return inject


def kill_worker_raylet(nodes: Nodes) -> Fault:
    def inject(target: Target) -> bool:
        nodes.kill_worker_raylet()
        return True

    return inject


def kill_head_raylet(nodes: Nodes) -> Fault:
    """Lose the cluster. The driver must end by itself; the next driver gets another cluster."""

    def inject(target: Target) -> bool:
        nodes.kill_head_raylet()
        target.process.wait()
        nodes.restart()
        return True

    return inject


def fill_disk(disk: SmallDisk) -> Fault:
    """Keep the disk full for DISK_FULL_SECONDS, or until the run ends."""

    def inject(target: Target) -> bool:
        disk.fill()
        deadline = time.monotonic() + DISK_FULL_SECONDS
        target.process.wait_until(lambda: time.monotonic() > deadline)
        disk.free()
        return True

    return inject


def disconnect_s3(proxy: FaultProxy) -> Fault:
    """Close every connection to S3 for S3_OUTAGE_SECONDS, even if the run ends earlier."""

    def inject(target: Target) -> bool:
        proxy.unreachable.set()
        _wait_out(target)
        proxy.unreachable.clear()
        return True

    return inject


def refuse_s3(proxy: FaultProxy, kind: RequestKind) -> Fault:
    """Answer requests of one kind with SlowDown for S3_OUTAGE_SECONDS, even if the run ends earlier."""

    def inject(target: Target) -> bool:
        proxy.refused = kind
        _wait_out(target)
        proxy.refused = None
        return True

    return inject


def _wait_out(target: Target) -> None:
    deadline = time.monotonic() + S3_OUTAGE_SECONDS
    target.process.wait_until(lambda: time.monotonic() > deadline)
    time.sleep(max(deadline - time.monotonic(), 0))


def start_another_run(target: Target) -> bool:
    """Start a second run on the same output. It must be refused with the reason."""
    with rerank_process(target.scenario.config_path, environment=target.environment) as second:
        code = second.wait()
        assert code == 2, f"the second run ended with exit code {code}:\n{second.output[-2000:]}"
        assert "the output is being written by process" in second.output, second.output
    return True


def _signal_replica(target: Target, number: int) -> bool:
    replicas = [process for process in target.log.read().processes() if _is_replica(process)]
    if not replicas:
        return False
    os.kill(target.random.choice(replicas), number)
    return True


def _is_replica(process: int) -> bool:
    command = subprocess.run(["ps", "-o", "command=", "-p", str(process)], capture_output=True, text=True, check=False)
    return "Reranker" in command.stdout or "ray::" in command.stdout
