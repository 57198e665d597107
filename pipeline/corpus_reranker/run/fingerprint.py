"""What decides whether a run resumes an output."""

from collections.abc import Mapping
from typing import Any

from corpus_reranker.io.sources.base import Source


def run_fingerprint_fields(reranker_fields: Mapping[str, Any], source: Source, limit: int | None) -> dict[str, Any]:
    """The fields of `Sink.check`: those of the reranker, the content of the input, and the number of queries."""
    return {**reranker_fields, "input": source.fingerprint_fields(), "limit": limit}
