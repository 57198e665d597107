"""Offline listwise reranking of a corpus of queries with an LLM, on Ray Data and vLLM."""

__version__ = "0.1.0"
