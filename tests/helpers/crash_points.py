"""A filesystem and control objects that crash at the nth operation that changes anything."""

from typing import Any

from pyarrow.fs import FileSystem, FileSystemHandler, PyFileSystem

from corpus_reranker.io.object_store import ObjectStore, StoredObject


class CrashError(Exception):
    """The process is gone."""


class Fuse:
    """Blows at operation `at` (from 1): before it, or after it where `late`. Blown, it lets nothing through."""

    def __init__(self, at: int, late: bool) -> None:
        self.left = at
        self.late = late

    @property
    def blown(self) -> bool:
        return self.left <= 0

    def run(self, operation: Any, *arguments: Any) -> Any:
        if self.blown:
            raise CrashError
        self.left -= 1
        if self.blown and not self.late:
            raise CrashError
        result = operation(*arguments)
        if self.blown:
            raise CrashError
        return result


class CrashingControl:
    def __init__(self, control: ObjectStore, fuse: Fuse) -> None:
        self._control, self._fuse = control, fuse

    def read(self, name: str) -> StoredObject | None:
        return self._control.read(name)

    def create(self, name: str, body: bytes) -> str | None:
        return self._fuse.run(self._control.create, name, body)  # type: ignore[no-any-return]

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        return self._fuse.run(self._control.replace, name, body, etag)  # type: ignore[no-any-return]

    def write(self, name: str, body: bytes) -> None:
        self._fuse.run(self._control.write, name, body)

    def delete(self, name: str) -> None:
        self._fuse.run(self._control.delete, name)


def crashing(filesystem: FileSystem, fuse: Fuse) -> PyFileSystem:
    return PyFileSystem(CrashingHandler(filesystem, fuse))


class CrashingHandler(FileSystemHandler):  # type: ignore[misc]
    """A write that crashes late leaves a torn file."""

    def __init__(self, filesystem: FileSystem, fuse: Fuse) -> None:
        self._filesystem, self._fuse = filesystem, fuse

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
        self._fuse.run(self._filesystem.delete_dir, path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._fuse.run(self._filesystem.delete_file, path)

    def move(self, source: str, target: str) -> None:
        self._fuse.run(self._filesystem.move, source, target)

    def copy_file(self, source: str, target: str) -> None:
        self._fuse.run(self._filesystem.copy_file, source, target)

    def open_input_stream(self, path: str) -> Any:
        return self._filesystem.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        return self._filesystem.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        try:
            return self._fuse.run(self._filesystem.open_output_stream, path)
        except CrashError:
            if self._fuse.late:
                with self._filesystem.open_output_stream(path) as truncated:
                    truncated.write(b"PAR1 and then nothing")
            raise

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError
