"""Control objects on a local or shared file system."""

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from corpus_reranker.errors import OutputError, StoreUnavailableError
from corpus_reranker.io.object_store.base import StoredObject, content_etag

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors of flock on Lustre without -o flock, on some FUSE file systems, and on NFS without a lock daemon."""

_LOCK_TIMEOUT_SECONDS = 30.0
"""A lock is held only for the write of a small file, unless its process is stopped at that moment."""

_LOCK_POLL_SECONDS = 0.01

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class LocalObjectStore:
    """A lock makes a compare and its write one step; a rename makes the write atomic."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check_writable(self) -> None:
        """Raise OSError if this user cannot write to the folder or create it. Writes nothing."""
        folder = self._folder
        while not folder.exists() and not folder.is_symlink() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    def read(self, name: str) -> StoredObject | None:
        path = self._folder / name
        try:
            body, modified = path.read_bytes(), path.stat().st_mtime
        except FileNotFoundError:
            return None
        return StoredObject(body, content_etag(body), lambda: self._now() - modified)

    def create(self, name: str, body: bytes) -> str | None:
        with self._locked():
            return None if (self._folder / name).exists() else self._put(name, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        with self._locked():
            current = self.read(name)
            return self._put(name, body) if current and current.etag == etag else None

    def write(self, name: str, body: bytes) -> None:
        self._put(name, body)

    def delete(self, name: str, etag: str | None = None) -> None:
        if etag is None:
            (self._folder / name).unlink(missing_ok=True)
            return
        with self._locked():
            current = self.read(name)
            if current and current.etag == etag:
                (self._folder / name).unlink(missing_ok=True)

    def _put(self, name: str, body: bytes) -> str:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"_tmp-{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return content_etag(body)

    def _now(self) -> float:
        """The file system's time, which is the server's on NFS: the mtime of a new file.

        A process without write permission gets the time of its machine. It cannot take a lease.
        """
        probe = self._folder / f"_clock-{uuid.uuid4().hex}"
        try:
            probe.touch()
            os.utime(probe)  # the file system, not this machine, sets a time that is not given
            return probe.stat().st_mtime
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock. The kernel releases it when its holder dies for any reason."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "_lock").open("wb") as lock:
            self._lock(lock)
            yield

    def _lock(self, lock: BinaryIO) -> None:
        expires = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while not self._try_lock(lock):
            if time.monotonic() > expires:
                raise StoreUnavailableError(
                    f"{self._folder}/_lock has been locked for {_LOCK_TIMEOUT_SECONDS:.0f} s by a process that is"
                    f" stopped or waits for the file system; `lslocks` names the process: continue or end it"
                )
            time.sleep(_LOCK_POLL_SECONDS)

    def _try_lock(self, lock: BinaryIO) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise OutputError(
                f"the file system of {self._folder} has no file locks (flock: {error.strerror}), so no lease can be"
                " held; mount it with locks (Lustre: -o flock), or write to another file system or to S3"
            ) from error
        return True
