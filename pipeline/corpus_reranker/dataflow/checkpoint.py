"""A Ray Data checkpoint whose finished rows are given, instead of read from checkpoint files.

Ray Data drops the finished rows of a dataset before its first stage, if a `CheckpointManager` finds any. It also writes
a checkpoint file next to each data file; a filesystem that stores nothing takes these.
"""

import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from fsspec import AbstractFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.data import DataContext
from ray.data.checkpoint import CheckpointConfig, CheckpointManager

_BYTES_PER_STRING = 64
"""An ASCII `str` takes 49 bytes plus its characters (CPython 3.11), and its reference 8; one with other characters
takes up to 24 more."""


class FinishedRows(CheckpointConfig):  # type: ignore[misc]
    """Makes the write of a dataset skip the rows with the given ids.

    Args:
        id_column: A string column of the dataset.
        ids: The ids of the finished rows, without nulls. They are kept in Ray's object store.
    """

    def __init__(self, id_column: str, ids: pa.ChunkedArray) -> None:
        super().__init__(
            id_column,
            checkpoint_path="checkpoint",
            override_filesystem=PyFileSystem(FSSpecHandler(_DiscardingFileSystem())),
            delete_checkpoint_on_success=False,
            checkpoint_manager_cls=FinishedRowsManager,
        )
        # Ray Data's filter does a binary search in a NumPy array. Arrow sorts UTF-8, in the same order as Python.
        self.ids = ray.put(ids.take(pc.sort_indices(ids)).to_numpy(zero_copy_only=False))
        self.ids_bytes = ids.nbytes + len(ids) * _BYTES_PER_STRING


class FinishedRowsManager(CheckpointManager):  # type: ignore[misc]
    """Returns the ids of `FinishedRows`. Ray Data constructs it when it plans the write."""

    def __init__(self, checkpoint_config: FinishedRows, data_context: DataContext) -> None:
        super().__init__(checkpoint_config, data_context)
        self._config = checkpoint_config

    def load_checkpoint(self, data_file_dir: str | None = None, data_file_filesystem: Any = None) -> tuple[Any, int]:
        """The sorted ids as a reference to a NumPy array, and their size in the memory of a filter actor."""
        return self._config.ids, self._config.ids_bytes


class _DiscardingFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """A filesystem that stores nothing: every path is an existing empty file, and all writes are discarded.

    Ray Data loads no checkpoint if the path of the checkpoint does not exist, and does not rename a checkpoint file to
    a path that exists.
    """

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": 0}

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete nothing."""

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        return io.BytesIO()
