"""A filesystem and an object store that crash at the nth write operation."""

from typing import Any

from pyarrow.fs import FileSystem, FileSystemHandler, PyFileSystem

from corpus_reranker.io.object_store import ObjectStore, StoredObject


class CrashError(Exception):
    """Stands in for the end of the process."""


class CrashPoint:
    """Crashes at write operation `at` (from 1), before it or, if `late`, after it; later operations crash too."""

    def __init__(self, at: int, late: bool) -> None:
        self.remaining = at
        self.late = late

    @property
    def crashed(self) -> bool:
        return self.remaining <= 0

    def run(self, operation: Any, *arguments: Any) -> Any:
        if self.crashed:
            raise CrashError
        self.remaining -= 1
        if self.crashed and not self.late:
            raise CrashError
        result = operation(*arguments)
        if self.crashed:
            raise CrashError
        return result


class CrashingStore:
    def __init__(self, store: ObjectStore, crash_point: CrashPoint) -> None:
        self._store, self._crash_point = store, crash_point

    def read(self, name: str) -> StoredObject | None:
        return self._store.read(name)

    def create(self, name: str, body: bytes) -> str | None:
        return self._crash_point.run(self._store.create, name, body)  # type: ignore[no-any-return]

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        return self._crash_point.run(self._store.replace, name, body, etag)  # type: ignore[no-any-return]

    def write(self, name: str, body: bytes) -> None:
        self._crash_point.run(self._store.write, name, body)

    def delete(self, name: str, etag: str | None = None) -> None:
        self._crash_point.run(self._store.delete, name, etag)


def crashing(filesystem: FileSystem, crash_point: CrashPoint) -> PyFileSystem:
    return PyFileSystem(CrashingHandler(filesystem, crash_point))


class CrashingHandler(FileSystemHandler):  # type: ignore[misc]
    """A write that crashes late leaves a truncated file."""

    def __init__(self, filesystem: FileSystem, crash_point: CrashPoint) -> None:
        self._filesystem, self._crash_point = filesystem, crash_point

    def get_type_name(self) -> str:
        return "crashing"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        return self._filesystem.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self._filesystem.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._filesystem.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._crash_point.run(self._filesystem.delete_dir, path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._crash_point.run(self._filesystem.delete_file, path)

    def move(self, source: str, target: str) -> None:
        self._crash_point.run(self._filesystem.move, source, target)

    def copy_file(self, source: str, target: str) -> None:
        self._crash_point.run(self._filesystem.copy_file, source, target)

    def open_input_stream(self, path: str) -> Any:
        return self._filesystem.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        return self._filesystem.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        try:
            return self._crash_point.run(self._filesystem.open_output_stream, path)
        except CrashError:
            if self._crash_point.late:
                with self._filesystem.open_output_stream(path) as truncated:
                    truncated.write(b"PAR1 and then nothing")
            raise

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError
