"""A folder that a test reads and writes, on local disk or on an S3 server."""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from helpers.s3_server import S3Server


@dataclass(frozen=True)
class Location:
    """`url` is the folder without a trailing slash; `storage` has the settings to reach it."""

    url: str
    storage: StorageConfig

    def input(self, name: str = "in", **settings: Any) -> InputConfig:
        return InputConfig(path=f"{self.url}/{name}", **settings)

    def output(self, name: str = "out", **settings: Any) -> OutputConfig:
        return OutputConfig(path=f"{self.url}/{name}", **settings)


def local_copy(location: Location, folder: Path) -> Location:
    """A copy of a folder on local disk as `folder`. Its files keep their modification times."""
    shutil.copytree(location.url, folder)
    return Location(str(folder), location.storage)


def new_location(request: pytest.FixtureRequest, local_folder: Path) -> Location:
    """`local_folder` if the fixture's parameter is "local", else a new folder on the S3 server of that fixture."""
    if request.param == "local":
        return Location(str(local_folder), StorageConfig())
    server: S3Server = request.getfixturevalue(request.param)
    return Location(f"s3://{server.bucket}/{uuid.uuid4().hex}/folder", server.storage)
