"""Keeps the completion store within its bounds, once a run has finished and its lease is released."""

from collections.abc import Callable

from corpus_reranker.cache.compaction import compact
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.run.finished_run import TIMEOUT_SECONDS, logging_failure

_GIB_BYTES = 2**30


def compact_completions(config: JobConfig, isolated: IsolatedProcess, log: Callable[[str], None]) -> None:
    """Compact `cache.path`, if there is one.

    The run is finished, and the next one compacts: a failure or a signal is logged and does not fail it.
    """
    cache = config.cache
    if cache.path is None:
        return
    with logging_failure(f"warning: cannot compact {cache.path}", log):
        bounds = cache.max_gib * _GIB_BYTES, cache.max_age_days
        isolated.run_within(TIMEOUT_SECONDS, compact, cache.path, config.storage, *bounds)
