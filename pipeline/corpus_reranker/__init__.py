"""Offline listwise reranking of a corpus of queries with an LLM, on Ray Data and vLLM.

The names below load their modules when they are first used, so that importing this package, or only its core, loads
neither Ray nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus_reranker.config.loader import load_config
    from corpus_reranker.config.schema import JobConfig, RerankerConfig
    from corpus_reranker.dataflow.processor import build_reranker
    from corpus_reranker.io.settings import RowSettings
    from corpus_reranker.ranking.rerank_query import rerank_query
    from corpus_reranker.run.driver import run_job
    from corpus_reranker.types import Candidate, RerankRequest, RerankResult

__version__ = "0.1.0"

__all__ = [
    "Candidate",
    "JobConfig",
    "RerankRequest",
    "RerankResult",
    "RerankerConfig",
    "RowSettings",
    "build_reranker",
    "load_config",
    "rerank_query",
    "run_job",
]

_MODULES = {
    "Candidate": "types",
    "JobConfig": "config.schema",
    "RerankRequest": "types",
    "RerankResult": "types",
    "RerankerConfig": "config.schema",
    "RowSettings": "io.settings",
    "build_reranker": "dataflow.processor",
    "load_config": "config.loader",
    "rerank_query": "ranking.rerank_query",
    "run_job": "run.driver",
}
"""Module of each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
