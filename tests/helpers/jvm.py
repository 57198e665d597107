"""Index operations of tests, for a subprocess: a JVM must not start in the process that runs the tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus_reranker.retrieval.corpus import DOCUMENTS
from corpus_reranker.retrieval.index import IndexInfo, build_index
from corpus_reranker.retrieval.search import Searcher
from corpus_reranker.retrieval.settings import RetrieveConfig
from corpus_reranker.types import Candidate

HEAP_BYTES = 1 << 28


def config(index: Path | str, **settings: Any) -> RetrieveConfig:
    return RetrieveConfig.model_validate(
        {"queries": {"path": "unused"}, "index": str(index), "jvm_heap_bytes": HEAP_BYTES, **settings}
    )


def build(rows: Sequence[dict[str, Any]], folder: Path) -> IndexInfo:
    """Build an index of `rows`, passed as two tables."""
    half = len(rows) // 2
    tables = [pa.Table.from_pylist(list(half_rows), DOCUMENTS) for half_rows in (rows[:half], rows[half:])]
    return build_index(lambda: tables, folder, "the test's corpus", threads=2, heap_bytes=HEAP_BYTES)


def search(settings: RetrieveConfig, queries: Sequence[tuple[str, int, tuple[str, ...]]]) -> list[list[Candidate]]:
    """Candidates of each (query, hits, excluded ids)."""
    searcher = Searcher(settings)
    try:
        return [searcher.search(query, hits, excluded) for query, hits, excluded in queries]
    finally:
        searcher.close()
