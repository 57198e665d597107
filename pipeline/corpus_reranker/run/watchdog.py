"""The watchdog of a pass: kills replicas that hang, and ends a pass that cannot make progress."""

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import ray
from ray.actor import ActorHandle

from corpus_reranker.config.schema import RerankerConfig
from corpus_reranker.dataflow.cluster import live_node_ids
from corpus_reranker.dataflow.kill_replica import kill_replica
from corpus_reranker.dataflow.missing_resources import missing_resources
from corpus_reranker.dataflow.replica import ReplicaId
from corpus_reranker.errors import NoFreeNodeError, RunError, TransientRunError
from corpus_reranker.run.stalls import NoProgress, NoReplica, SilentReplicas
from corpus_reranker.run.stats import StatsActor, StatsSnapshot

_INTERVAL_SECONDS = 5.0
_CALL_TIMEOUT_SECONDS = 30.0

_PLACEMENT_SECONDS = 30.0
"""Ray needs this long to start the process of a replica on a node with enough free resources."""

_LOG_SECONDS = 300.0

_INTERRUPT = signal.SIGUSR1
"""Not SIGINT: a shell starts a background job with SIGINT ignored, and `interrupt_main` has no effect then."""


class Watchdog:
    """Context manager around a pass. It runs in a thread of the driver, so that nothing in a replica can stop it.

    It ends the pass by interrupting the main thread, and replaces the KeyboardInterrupt with an error with the reason.
    """

    def __init__(
        self, stats_actor: "ActorHandle[StatsActor]", config: RerankerConfig, log: Callable[[str], None]
    ) -> None:
        """Create a watchdog that is not started yet. `config` has the timeouts; `log` is called with each line."""
        self._stats_actor = stats_actor
        self._config = config
        self._log = log
        cluster = config.cluster
        shortest = min(cluster.replica_timeout_seconds, cluster.placement_timeout_seconds)
        self._interval_seconds = min(_INTERVAL_SECONDS, shortest / 4, config.no_progress_timeout_seconds / 4)
        self._silent_replicas = SilentReplicas(cluster.replica_timeout_seconds)
        self._no_progress, self._no_replica = NoProgress(), NoReplica()
        self._snapshot = StatsSnapshot()
        self._logged_seconds: float | None = None
        self._error: RunError | None = None
        self._handler_before: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if threading.current_thread() is threading.main_thread():
            self._handler_before = signal.signal(_INTERRUPT, signal.default_int_handler)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._error is not None and kind is None:  # the pass ended just before the interrupt, which is still pending
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(1)
        if self._handler_before is not None:
            signal.signal(_INTERRUPT, self._handler_before)
        if self._error is not None and isinstance(error, KeyboardInterrupt):
            raise self._error from None

    def _watch(self) -> None:
        last = time.monotonic()
        while self._error is None and not self._stop.wait(self._interval_seconds):
            now = time.monotonic()
            seconds, last = min(now - last, 2 * self._interval_seconds), now
            try:
                self._snapshot = ray.get(self._stats_actor.snapshot.remote(), timeout=_CALL_TIMEOUT_SECONDS)
                self._check_replicas(seconds)
            except Exception as error:  # the next check tries again; if the cluster is lost, the pass reports it
                if not self._stop.is_set():
                    self._log(f"the watchdog could not check the replicas: {type(error).__name__}")
            self._check_progress(seconds)

    def _check_replicas(self, seconds: float) -> None:
        for replica, silent_seconds in self._silent_replicas.tick(self._snapshot, seconds):
            threading.Thread(target=self._kill, args=(replica, silent_seconds), name="kill", daemon=True).start()
        self._check_resources(self._no_replica.tick(self._snapshot, live_node_ids(), seconds))

    def _check_progress(self, seconds: float) -> None:
        timeout = self._config.no_progress_timeout_seconds
        if self._no_progress.tick(self._snapshot, seconds) >= timeout and self._error is None:
            self._end(
                TransientRunError(
                    f"no window was answered and no query finished for {timeout:.0f} s "
                    "(cluster.no_progress_timeout_seconds)"
                )
            )

    def _kill(self, replica: ReplicaId, silent_seconds: float) -> None:
        try:
            if kill_replica(replica):
                self._log(f"replica {replica.process} had not reported for {silent_seconds:.0f} s: killed its process")
        except Exception as error:  # the node is lost or hangs as well: Ray gives the queries to another replica
            self._log(f"could not kill replica {replica.process}: {type(error).__name__}")

    def _check_resources(self, seconds: float) -> None:
        timeout = self._config.cluster.placement_timeout_seconds
        missing = missing_resources(self._config) if seconds >= min(_PLACEMENT_SECONDS, timeout / 2) else None
        if missing is None:
            self._logged_seconds = None
            return
        if seconds >= timeout:
            self._end(NoFreeNodeError(f"{missing}, for {seconds:.0f} s (cluster.placement_timeout_seconds)"))
        elif self._logged_seconds is None or seconds >= self._logged_seconds + _LOG_SECONDS:
            self._logged_seconds = seconds
            self._log(f"{missing}; the run ends in {timeout - seconds:.0f} s unless that changes")

    def _end(self, error: RunError) -> None:
        if not self._stop.is_set():
            self._error = error
            _thread.interrupt_main(_INTERRUPT)
