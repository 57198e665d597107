"""A filesystem and an object store that stop before the nth write operation while something else happens."""

from collections.abc import Callable
from typing import Any

from pyarrow.fs import FileSystem, LocalFileSystem

from corpus_reranker.io.sinks.parquet import ParquetSink
from helpers.crash_points import CrashingStore, CrashPoint, crashing


class PausePoint(CrashPoint):
    """Calls `meanwhile` before write operation `at` (from 1). All operations take place."""

    def __init__(self, at: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(at, late=False)
        self._meanwhile = meanwhile
        self.paused = False

    def run(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        self.remaining -= 1
        if self.remaining == 0:
            self.paused = True
            self._meanwhile()
        return operation(*arguments, **options)


class PausingLocalFileSystem(LocalFileSystem):  # type: ignore[misc]
    """Local disk, which can rename."""

    def __init__(self, point: PausePoint) -> None:
        super().__init__()
        self._point = point

    def delete_file(self, path: str) -> None:
        self._point.run(super().delete_file, path)

    def move(self, src: str, dest: str) -> None:
        self._point.run(super().move, src, dest)

    def open_output_stream(self, path: str, *arguments: Any, **options: Any) -> Any:
        return self._point.run(super().open_output_stream, path, *arguments, **options)


def pause(sink: ParquetSink, point: PausePoint, *, can_rename: bool) -> None:
    """Make the write operations of a sink on local disk stop at `point`."""
    filesystem: FileSystem = PausingLocalFileSystem(point) if can_rename else crashing(LocalFileSystem(), point)
    object.__setattr__(sink._layout, "filesystem", filesystem)
    sink._control = CrashingStore(sink._control, point)
