"""Joining the Ray cluster a job was submitted to, or starting a local one."""

import logging
import os
import signal
import threading

import ray
from ray.data import DataContext

from corpus_reranker.dataflow.capacity import NodeResources

_LOCAL_CPUS_AT_LEAST = 4
"""Logical CPUs of a local Ray. Reading, filtering finished queries, reranking and writing each hold one; with
fewer, a resumed run on a 2-core machine waits for ever."""


def connect() -> None:
    """Join the cluster named by RAY_ADDRESS (`ray job submit` sets it), or start Ray on this machine."""
    if ray.is_initialized():
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, runtime_env=_runtime_env())
    else:
        ray.init(
            address="local",  # else one that `ray start` left on this machine is joined
            num_cpus=max(_LOCAL_CPUS_AT_LEAST, os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    # Ray's own handlers (ray/_private/worker.py and its core's) print a C stack and exit with 15 instead of 143.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    quieten()


def _runtime_env() -> dict[str, dict[str, str]] | None:
    """The PYTHONPATH with which a cluster's workers find the package, if a script of jobs/ runs it from a checkout."""
    path = os.environ.get("CORPUS_RERANKER_WORKER_PYTHONPATH")
    return {"env_vars": {"PYTHONPATH": path}} if path else None


def quieten() -> None:
    """Leave the terminal to the job's own lines; Ray's stay in its session's log files."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # not the one of the session's log file
            handler.addFilter(_without_stacks)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns that the bars are off


def _without_stacks(record: logging.LogRecord) -> bool:
    """Ray Data shows hundreds of lines where a task failed; the run's own error says why in one."""
    return record.exc_info is None


def node_resources() -> list[NodeResources]:
    """CPUs and GPUs of each live node of the cluster, in use or not."""
    totals = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [NodeResources(cpus=total.get("CPU", 0.0), gpus=total.get("GPU", 0.0)) for total in totals]
