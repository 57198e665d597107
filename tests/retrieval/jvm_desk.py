"""What tests ask of an index, run in a process with a JVM: it stays out of the one that runs all tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.records import Candidate
from pipeline.retrieval.corpus import DOCUMENTS
from pipeline.retrieval.index import IndexFacts, build_index
from pipeline.retrieval.search import Searcher
from pipeline.retrieval.settings import RetrieveConfig

HEAP_BYTES = 1 << 28


def config(index: Path | str, **settings: Any) -> RetrieveConfig:
    return RetrieveConfig.model_validate(
        {"queries": {"path": "unused"}, "index": str(index), "jvm_heap_bytes": HEAP_BYTES, **settings}
    )


def build(rows: Sequence[dict[str, Any]], folder: Path) -> IndexFacts:
    """Build an index of `rows`, given in two tables."""
    half = len(rows) // 2
    tables = [pa.Table.from_pylist(list(part), DOCUMENTS) for part in (rows[:half], rows[half:])]
    return build_index(lambda: tables, folder, "the test's corpus", threads=2, heap_bytes=HEAP_BYTES)


def search(settings: RetrieveConfig, questions: Sequence[tuple[str, int, tuple[str, ...]]]) -> list[list[Candidate]]:
    """Candidates of each (query, top_k, excluded ids)."""
    searcher = Searcher(settings)
    try:
        return [searcher.search(query, top_k, excluded) for query, top_k, excluded in questions]
    finally:
        searcher.close()
