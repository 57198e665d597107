"""Control objects on any other filesystem of pyarrow or fsspec."""

import uuid

from pyarrow.fs import FileSystem, FileType

from corpus_reranker.io.filesystem import join
from corpus_reranker.io.object_store.base import StoredObject, content_etag


class FilesystemObjectStore:
    """Compares, then writes. Two writers at the same moment can both succeed."""

    def __init__(self, filesystem: FileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder

    def read(self, name: str) -> StoredObject | None:
        info = self._filesystem.get_file_info(join(self._folder, name))
        if info.type != FileType.File:
            return None
        with self._filesystem.open_input_stream(info.path) as stream:
            body = stream.read()
        return StoredObject(body, content_etag(body), lambda: self._seconds_since(info.mtime_ns))

    def create(self, name: str, body: bytes) -> str | None:
        return None if self.read(name) else self._put(name, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        current = self.read(name)
        return self._put(name, body) if current and current.etag == etag else None

    def write(self, name: str, body: bytes) -> None:
        self._put(name, body)

    def delete(self, name: str, etag: str | None = None) -> None:
        current = self.read(name)
        if current and etag in (None, current.etag):
            self._filesystem.delete_file(join(self._folder, name))

    def _put(self, name: str, body: bytes) -> str:
        path = join(self._folder, name)
        self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with self._filesystem.open_output_stream(path) as stream:
            stream.write(body)
        return content_etag(body)

    def _seconds_since(self, mtime_ns: int | None) -> float:
        """Seconds by the store's clock, whose time is the mtime of a new file; 0 if the store has no timestamps."""
        if not mtime_ns:
            return 0.0
        probe = f"_clock-{uuid.uuid4().hex}"
        self._put(probe, b"")
        try:
            now_ns = self._filesystem.get_file_info(join(self._folder, probe)).mtime_ns
        finally:
            self._filesystem.delete_file(join(self._folder, probe))
        return (now_ns - mtime_ns) / 1e9 if now_ns else 0.0
