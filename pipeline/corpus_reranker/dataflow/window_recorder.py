"""Prompts and completions that a replica keeps for people to read."""

import asyncio

from corpus_reranker.io.quarantine import QuarantineWriter, write_sample
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.types import RerankResult

_SAMPLED_QUERIES = 2
"""Number of queries per replica whose windows are all kept for the run report."""


class WindowRecorder:
    """Writes incomplete windows to the quarantine, and all windows of the first queries to the report's samples."""

    def __init__(self, layout: Layout | None) -> None:
        """Create a recorder. With `layout` None, it keeps nothing."""
        self._layout = layout
        self._quarantine = QuarantineWriter(layout.filesystem, layout.quarantine_folder) if layout else None
        self._samples_left = _SAMPLED_QUERIES

    async def record(self, result: RerankResult) -> None:
        """Record the windows of one query. A failed write is logged, not raised."""
        if self._layout is None or self._quarantine is None:
            return
        if any(window.status != "complete" for window in result.windows):
            await asyncio.to_thread(self._quarantine.write, result)
        if self._samples_left:
            self._samples_left -= 1
            await asyncio.to_thread(write_sample, self._layout.filesystem, self._layout.samples_folder, result)
