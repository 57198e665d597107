"""Joining the Ray cluster a job was submitted to, or starting a local one."""

import contextlib
import logging
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import ray
from ray.data import DataContext

from corpus_reranker.dataflow.capacity import NodeResources
from corpus_reranker.dataflow.ray_compat import allow_idle_stages, shorten_messages

logger = logging.getLogger(__name__)

_MIN_LOCAL_CPUS = 4
"""Logical CPUs of a local Ray. Reading, filtering finished queries, reranking and writing each hold one; with fewer, a
resumed run on a 2-core machine would wait forever."""

_CORE_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
_LEVEL_NOTICE = b"Set ray log level from environment variable"
_STDERR = 2
"""File descriptor: the core does not write through `sys.stderr`."""

_NOSET_VARIABLE = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names (`ray job submit` sets it), or start Ray on this machine."""
    if ray.is_initialized():
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with _quiet_core():
        if "RAY_ADDRESS" in os.environ:
            ray.init(log_to_driver=False, logging_level=logging.WARNING, runtime_env=_runtime_env())
        else:
            _warn_of_shared_gpus()
            ray.init(
                address="local",  # otherwise Ray joins a cluster that `ray start` left on this machine
                num_cpus=max(_MIN_LOCAL_CPUS, os.cpu_count() or 1),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    # Ray's own handlers (ray/_private/worker.py and its core's) print a C stack and exit with 15 instead of 143.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    silence_ray_logs()


@contextlib.contextmanager
def _quiet_core() -> Iterator[None]:
    """Stop the log of Ray's C++ core in this process and in a local Ray, unless the user chose a level.

    For each actor pool of Ray Data, the core logs an error that constructor arguments are in the object store. The
    error has no effect: Ray Data keeps them alive as long as the pool. Every failure of a run also raises a Python
    exception.
    """
    if _CORE_LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_CORE_LOG_LEVEL] = "fatal"
    try:
        with _without_level_notice():
            yield
    finally:
        del os.environ[_CORE_LOG_LEVEL]


@contextlib.contextmanager
def _without_level_notice() -> Iterator[None]:
    """Drop the line in which Ray's core reports its log level. Other output on stderr appears when the block ends."""
    with tempfile.TemporaryFile() as captured, contextlib.ExitStack() as stack:
        stderr = os.dup(_STDERR)
        stack.callback(os.close, stderr)
        os.dup2(captured.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            captured.seek(0)
            for line in captured:
                if _LEVEL_NOTICE not in line:
                    os.write(_STDERR, line)


def _warn_of_shared_gpus() -> None:
    """Warn if this process's environment, which workers of a local Ray inherit, stops Ray from assigning them GPUs.

    The workers of a cluster do not inherit it. Ray sets the variable for the driver of every submitted job.
    """
    if os.environ.get(_NOSET_VARIABLE, "").lower() in ("1", "true"):
        logger.warning("%s is set: every replica of a node would use GPU 0. Unset it on all nodes", _NOSET_VARIABLE)


def _runtime_env() -> dict[str, dict[str, str]] | None:
    """The PYTHONPATH with which a cluster's workers find the package, if a script of jobs/ runs it from a checkout."""
    path = os.environ.get("CORPUS_RERANKER_WORKER_PYTHONPATH")
    return {"env_vars": {"PYTHONPATH": path}} if path else None


def silence_ray_logs() -> None:
    """Keep log lines of Ray Data and stacks of Ray off the terminal. The log files of Ray's session still have them."""
    shorten_messages()
    allow_idle_stages()
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # not the handler of the session's log file
            handler.addFilter(_without_stacks)
    # The limit on write tasks is for a large run; Ray Data warns if a run has fewer blocks.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks for", category=UserWarning)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns that the bars are off


def _without_stacks(record: logging.LogRecord) -> bool:
    """Ray Data prints hundreds of lines when a task fails. The command's own error gives the reason in one."""
    return record.exc_info is None and record.name != "ray.data.exceptions"


def node_resources() -> list[NodeResources]:
    """CPUs and GPUs of each live node of the cluster, whether in use or not."""
    totals = [node["Resources"] for node in _live_nodes()]
    return [NodeResources(cpus=total.get("CPU", 0.0), gpus=total.get("GPU", 0.0)) for total in totals]


def live_node_ids() -> list[str]:
    """Ids of the live nodes of the cluster."""
    return [node["NodeID"] for node in _live_nodes()]


def _live_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
