"""Offline listwise reranking of a corpus of queries. Rooms and their dependencies: see README.md."""

__version__ = "0.1.0"
