"""A folder that a test reads and writes, on local disk or on an S3 server."""

from dataclasses import dataclass
from typing import Any

from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig


@dataclass(frozen=True)
class Location:
    """`url` is the folder without a trailing slash; `storage` has the settings to reach it."""

    url: str
    storage: StorageConfig

    def input(self, name: str = "in", **settings: Any) -> InputConfig:
        return InputConfig(path=f"{self.url}/{name}", **settings)

    def output(self, name: str = "out", **settings: Any) -> OutputConfig:
        return OutputConfig(path=f"{self.url}/{name}", **settings)
