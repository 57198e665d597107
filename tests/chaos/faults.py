"""What can happen to a run. Each is a function of what is running; see trial.Fault."""

import contextlib
import os
import signal
import subprocess
import time

from attempt import Fault, Running
from world import Nodes, SmallDisk

from helpers.fault_proxy import FaultProxy
from helpers.rerank_process import HangError, rerank_process

STOP_SECONDS = 3.0
"""Between SIGTERM and SIGKILL of `ray job stop` (RAY_JOB_STOP_WAIT_TIME_S of ray/dashboard/modules/job/utils)."""

S3_AWAY_SECONDS = 60.0
DISK_FULL_SECONDS = 10.0


def kill_driver(running: Running) -> bool:
    running.process.kill(signal.SIGKILL)
    running.process.wait()
    return True


def stop_driver(running: Running) -> bool:
    """As `ray job stop` does it."""
    running.process.kill(signal.SIGTERM)
    with contextlib.suppress(HangError):
        running.process.wait(STOP_SECONDS)
    if running.process.running():
        running.process.kill(signal.SIGKILL)
        running.process.wait()
    return True


def kill_replica(running: Running) -> bool:
    alive = [process for process in running.log.read().processes() if _is_replica(process)]
    if not alive:
        return False
    os.kill(running.random.choice(alive), signal.SIGKILL)
    return True


def kill_worker_raylet(nodes: Nodes) -> Fault:
    def strike(running: Running) -> bool:
        nodes.kill_worker_raylet()
        return True

    return strike


def kill_head_raylet(nodes: Nodes) -> Fault:
    """And with it the cluster: the driver has to end by itself, and the next one gets another cluster."""

    def strike(running: Running) -> bool:
        nodes.kill_head_raylet()
        running.process.wait()
        nodes.restart()
        return True

    return strike


def fill_disk(disk: SmallDisk) -> Fault:
    """For a while, or until the run ends."""

    def strike(running: Running) -> bool:
        disk.fill()
        until = time.monotonic() + DISK_FULL_SECONDS
        running.process.wait_until(lambda: time.monotonic() > until)
        disk.free()
        return True

    return strike


def take_s3_away(proxy: FaultProxy) -> Fault:
    def strike(running: Running) -> bool:
        proxy.away.set()
        until = time.monotonic() + S3_AWAY_SECONDS
        running.process.wait_until(lambda: time.monotonic() > until)
        time.sleep(max(until - time.monotonic(), 0))  # where the run ended: it is away as long as it is away
        proxy.away.clear()
        return True

    return strike


def start_another_run(running: Running) -> bool:
    """A second run on the same output has to be refused, and say why."""
    scenario = running.scenario
    with rerank_process(scenario.config_path, environment=running.environment) as second:
        code = second.wait()
        assert code == 2, f"the second run ended with {code}:\n{second.prefix[-2000:]}"
        assert "the output is being written by process" in second.prefix, second.prefix
    return True


def _is_replica(process: int) -> bool:
    command = subprocess.run(["ps", "-o", "command=", "-p", str(process)], capture_output=True, text=True, check=False)
    return "Reranker" in command.stdout or "ray::" in command.stdout
