"""The lease on the output, which the driver holds while it runs."""

import _thread
import contextlib
import os
from collections.abc import Iterator

from corpus_reranker.errors import OutputError, StoreUnavailableError
from corpus_reranker.io.sinks.base import Sink
from corpus_reranker.io.storage_errors import brief, error_kind
from corpus_reranker.run.ray_errors import run_error


@contextlib.contextmanager
def output_lease(sink: Sink) -> Iterator[None]:
    """Hold the output's lease. Its renewal thread interrupts the main thread when the lease is lost.

    Raises:
        OutputError: Another run holds the lease, this one has lost it, or the output cannot be written.
        RunError: The store failed or did not answer between two passes.
    """
    lease = sink.lease(job_id=os.environ.get("RAY_JOB_SUBMISSION_ID"), on_lost=_thread.interrupt_main)
    with lease:
        try:
            yield
        except KeyboardInterrupt:
            lease.check()  # raises if the lease is lost; otherwise the interrupt was Ctrl-C
            raise
        except (OSError, StoreUnavailableError) as error:
            lease.check()  # a file that another run has deleted cannot be read
            if error_kind(error).hint:
                raise OutputError(f"cannot use the output: {brief(error)}") from error
            raise run_error(error) from error
