"""Restarts a run that failed for a transient reason, as long as it makes progress."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import ray

from corpus_reranker.errors import (
    ConfigError,
    OutputConflictError,
    OutputHeldError,
    RerankerError,
    TransientRunError,
)
from corpus_reranker.run.ray_errors import is_transient_cause

T = TypeVar("T")

_FIRST_DELAY_SECONDS = 10.0
_MAX_DELAY_SECONDS = 600.0

_MAX_RESTARTS = 100
"""Bound on the restarts of a run that makes progress between them."""


@dataclass(slots=True)
class Attempt:
    """State of one attempt of a run.

    Attributes:
        restarts: Number of attempts before this one.
        done: Finished queries in the output at the last count.
        prepared: The output belongs to this run, so another attempt must not discard it.
        running: The replicas were requested.
    """

    restarts: int = 0
    done: int = -1
    prepared: bool = False
    running: bool = False


def run_with_restarts(attempt: Callable[[Attempt], T], max_restarts: int, log: Callable[[str], None]) -> T:
    """Call `attempt` until it succeeds, fails for a reason that is not transient, or fails too often.

    Args:
        attempt: One attempt of the run.
        max_restarts: Maximum number of consecutive restarts without another finished query.
        log: Called with each log line.

    Raises:
        RerankerError, OSError: The error of the last attempt.
    """
    connected_before = ray.is_initialized()
    state, stalled_restarts = Attempt(), 0
    while True:
        done_before = state.done
        try:
            return attempt(state)
        except (RerankerError, OSError) as error:
            progressed = -1 < done_before < state.done
            stalled_restarts = 0 if progressed else stalled_restarts + 1
            if not _may_succeed(error, state) or stalled_restarts > max_restarts or state.restarts >= _MAX_RESTARTS:
                raise
            delay_seconds = min(_FIRST_DELAY_SECONDS * 2.0 ** max(stalled_restarts - 1, 0), _MAX_DELAY_SECONDS)
            number = (
                "after progress" if progressed else f"{stalled_restarts} of at most {max_restarts} without progress"
            )
            reason = str(error).partition("\n")[0]
            log(f"{reason}; restart {number}, in {delay_seconds:.0f} s")
        if not connected_before:
            ray.shutdown()  # the connection may be lost
        time.sleep(delay_seconds)
        state = Attempt(state.restarts + 1, state.done, state.prepared)


def _may_succeed(error: RerankerError | OSError, state: Attempt) -> bool:
    """Whether another attempt may succeed. An unavailable store or Ray may still be unavailable at the next start."""
    if isinstance(error, OutputHeldError | OutputConflictError | ConfigError):
        return False
    still_unavailable = state.restarts > 0 and not state.running
    lost_store = state.prepared and isinstance(error.__cause__, OSError) and is_transient_cause(error.__cause__)
    return isinstance(error, TransientRunError) or still_unavailable or lost_store
