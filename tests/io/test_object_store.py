import errno
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corpus_reranker.errors import ConfigError, OutputError
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.object_store.other import FilesystemObjectStore
from corpus_reranker.io.settings import StorageConfig
from helpers.locations import Location
from helpers.s3_server import S3Server


@pytest.fixture
def control(location: Location) -> ObjectStore:
    return open_object_store(f"{location.url}/out", location.storage)


def test_create_replace_delete_on_another_filesystem() -> None:
    test_create_replace_delete(open_object_store(f"memory://control-{uuid.uuid4().hex}", StorageConfig()))


def test_create_replace_delete(control: ObjectStore) -> None:
    assert control.read("a/b.json") is None
    etag = control.create("a/b.json", b"1")
    assert etag is not None
    assert control.create("a/b.json", b"2") is None
    stored = control.read("a/b.json")
    assert stored is not None
    assert (stored.body, stored.etag) == (b"1", etag)
    assert -1 <= stored.age_seconds() < 10
    newer = control.replace("a/b.json", b"3", etag)
    assert newer is not None
    assert control.replace("a/b.json", b"4", etag) is None
    assert control.replace("nothing", b"4", etag) is None
    control.write("a/b.json", b"5")
    stored = control.read("a/b.json")
    assert stored is not None
    assert stored.body == b"5"
    control.delete("a/b.json", stored.etag)
    assert control.read("a/b.json") is None
    control.delete("a/b.json", stored.etag)
    control.delete("a/b.json")


def test_delete_a_version_that_another_process_has_replaced(control: ObjectStore) -> None:
    etag = control.create("a.json", b"1")
    control.write("a.json", b"2")
    control.delete("a.json", etag)
    if "RERANKER_TEST_S3_ENDPOINT" in os.environ and control.read("a.json") is None:
        pytest.skip("this store ignores If-Match in a deletion (docs/guarantees.md, Limits)")
    assert control.read("a.json") is not None


def test_one_of_many_creators_wins_and_no_update_is_lost(location: Location) -> None:
    url = f"{location.url}/out"
    together = threading.Barrier(4)

    def create_and_count(number: int) -> bool:
        control = open_object_store(url, location.storage)
        together.wait()
        created = control.create("n", f"0 by {number}".encode()) is not None
        for _ in range(2):
            while True:
                stored = control.read("n")
                assert stored is not None
                count = int(stored.body.split()[0])
                if control.replace("n", f"{count + 1} by {number}".encode(), stored.etag):
                    break
        return created

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(create_and_count, range(4))) == 1
    stored = open_object_store(url, location.storage).read("n")
    assert stored is not None
    assert stored.body.startswith(b"8 by")


def test_own_write_whose_response_was_lost_counts_as_written(s3_server: S3Server) -> None:
    """The repeated request fails on the object that the first one wrote."""
    control = open_object_store(f"s3://{s3_server.bucket}/{uuid.uuid4().hex}", s3_server.storage)
    first = control.create("x", b"mine")
    assert control.create("x", b"mine") == first
    assert control.create("x", b"other") is None


def test_failed_write_keeps_the_old_object(local_location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    control = open_object_store(f"{local_location.url}/out", local_location.storage)
    control.write("x", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        control.write("x", b"new")
    stored = control.read("x")
    assert stored is not None
    assert stored.body == b"old"
    assert [path.name for path in (Path(local_location.url) / "out").iterdir()] == ["x"]


def test_other_filesystems_have_no_conditional_writes() -> None:
    assert isinstance(open_object_store("memory://x", StorageConfig()), FilesystemObjectStore)


def test_control_objects_on_s3_need_no_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("corpus_reranker.io.filesystem.S3FileSystem")
    open_object_store("s3://bucket/folder", StorageConfig(region="us-east-1"))
    with pytest.raises(ConfigError, match="names no bucket"):
        open_object_store("s3://", StorageConfig())


def test_missing_bucket_is_an_output_error(s3_server: S3Server) -> None:
    with pytest.raises(OutputError, match=r"cannot read s3://no-such-bucket-at-all/f/x: .*NoSuchBucket"):
        open_object_store("s3://no-such-bucket-at-all/f", s3_server.storage).read("x")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_file_system_without_locks_is_refused(
    local_location: Location, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    control = open_object_store(f"{local_location.url}/out", local_location.storage)
    with pytest.raises(OutputError, match=r"has no file locks .* another file system or to S3"):
        control.create("x", b"1")


def test_age_without_write_permission_is_by_the_local_clock(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = open_object_store(f"{local_location.url}/out", local_location.storage)
    control.write("x", b"1")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.touch", read_only)
    stored = control.read("x")
    assert stored is not None
    assert -1 <= stored.age_seconds() < 30
