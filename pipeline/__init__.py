"""Offline listwise reranking of a corpus of queries. Rooms and their dependencies: see README.md."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("corpus-reranker")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+checkout"
