"""Work on a finished run, whose lease is released: the report and the compaction of the completion store.

The run stays finished if this work fails or a signal interrupts it: both are logged, not raised.
"""

import contextlib
from collections.abc import Callable, Iterator

from corpus_reranker.cache.compaction import compact
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.report.page import report_output

_TIMEOUT_SECONDS = 600.0
"""Timeout of the report, and of the compaction."""

_GIB_BYTES = 2**30


def write_final_report(config: JobConfig, isolated: IsolatedProcess, log: Callable[[str], None]) -> None:
    """Write the report page."""
    with _logging_failure("cannot write the report; try `corpus-reranker report`", log):
        output = (config.output.path, config.storage)
        page = isolated.run_within(_TIMEOUT_SECONDS, report_output, *output, config.report, config.evaluate)
        log(f"report: {page}")


def compact_completions(config: JobConfig, isolated: IsolatedProcess, log: Callable[[str], None]) -> None:
    """Compact `cache.path`, if there is one. After a failure, the next run compacts it."""
    cache = config.cache
    if cache.path is None:
        return
    with _logging_failure(f"warning: cannot compact {cache.path}", log):
        limits = cache.max_gib * _GIB_BYTES, cache.max_age_days
        isolated.run_within(_TIMEOUT_SECONDS, compact, cache.path, config.storage, *limits)


@contextlib.contextmanager
def _logging_failure(message: str, log: Callable[[str], None]) -> Iterator[None]:
    """Log `message` and the reason for an error or a signal, instead of raising it."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        log(f"{message}: {type(error).__name__}: {error}")
