import logging
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, PyFileSystem

from corpus_reranker.config.loader import load_config
from corpus_reranker.errors import ConfigError, OutputError
from corpus_reranker.io.filesystem import S3FileSystem, delete_folder, join, list_files, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import InputConfig, StorageConfig
from helpers.fault_proxy import fault_proxy
from helpers.locations import Location
from helpers.s3_server import S3Server

SECRETS = ("wJalrXUtnFEMI-secret", "AKIA-key-id", "token-of-a-session")


def test_round_trip_of_a_table(location: Location) -> None:
    filesystem, path = resolve(f"{location.url}/a folder/ü=1/x.parquet", location.storage)
    table = pa.table({"x": list(range(1000))})
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    pq.write_table(table, path, filesystem=filesystem)
    assert pq.read_table(path, filesystem=filesystem, partitioning=None).equals(table)


def test_local_urls_and_paths_are_equal(tmp_path: Path) -> None:
    for url in (f"{tmp_path}/x", f"file://{tmp_path}/x", f"{tmp_path}/y/../x/"):
        filesystem, path = resolve(url, StorageConfig())
        assert isinstance(filesystem, LocalFileSystem)
        assert path == f"{tmp_path}/x"
    assert resolve("~/x", StorageConfig())[1] == str(Path.home() / "x")


def test_spellings_of_an_s3_url() -> None:
    for url in ("s3://b/x/y", "S3://b/x/y/", "s3a://b//x//y"):
        filesystem, path = resolve(url, StorageConfig(endpoint_url="http://127.0.0.1:1"))
        assert isinstance(filesystem, S3FileSystem)
        assert path == "b/x/y"


def test_other_urls_go_through_fsspec() -> None:
    filesystem, path = resolve(f"memory://bucket-{uuid.uuid4().hex}/x", StorageConfig())
    assert isinstance(filesystem, PyFileSystem)
    filesystem.create_dir(path)
    pq.write_table(pa.table({"x": [1]}), join(path, "t.parquet"), filesystem=filesystem)
    assert [info.base_name for info in list_files(filesystem, path)] == ["t.parquet"]


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no installed library reads nosuch://bucket/x"):
        resolve("nosuch://bucket/x", StorageConfig())
    with pytest.raises(ConfigError, match="names no bucket"):
        resolve("s3:///x", StorageConfig())


def test_list_files_of_a_folder(location: Location) -> None:
    filesystem, folder = resolve(f"{location.url}/f", location.storage)
    assert list_files(filesystem, folder) == []
    delete_folder(filesystem, folder)
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        filesystem.create_dir(join(folder, name).rpartition("/")[0], recursive=True)
        filesystem.open_output_stream(join(folder, name)).close()
    assert [info.base_name for info in list_files(filesystem, folder)] == ["a.txt", "b.txt"]
    assert len(list_files(filesystem, folder, recursive=True)) == 3
    delete_folder(filesystem, folder)
    assert list_files(filesystem, folder, recursive=True) == []


def test_folders_send_no_request_to_s3(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})
        filesystem, folder = resolve(f"s3://{s3_server.bucket}/{uuid.uuid4().hex}", storage)
        filesystem.create_dir(f"{folder}/a/b", recursive=True)
        for name in ("a/b/x", "a/y", "z"):
            filesystem.open_output_stream(f"{folder}/{name}").close()
        filesystem.move(f"{folder}/z", f"{folder}/c/moved")
        filesystem.delete_file(f"{folder}/c/moved")
        filesystem.delete_file(f"{folder}/c/moved")
        assert [info.path for info in list_files(filesystem, folder, recursive=True)] == [
            f"{folder}/a/b/x",
            f"{folder}/a/y",
        ]
        filesystem.delete_dir(f"{folder}/a")
        assert list_files(filesystem, folder, recursive=True) == []
        requested = [(method, path.partition("?")[0]) for method, path, _ in proxy.requests]
    assert "HEAD" not in {method for method, _ in requested}
    assert not [path for method, path in requested if method == "PUT" and path.endswith("/")]


def test_s3_requests_carry_no_checksums(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})
        filesystem, folder = resolve(f"s3://{s3_server.bucket}/{uuid.uuid4().hex}", storage)
        with filesystem.open_output_stream(f"{folder}/x") as stream:
            stream.write(b"x" * 12_000_000)
        open_object_store(f"s3://{folder}", storage).write("y", b"y")
        filesystem.delete_dir(folder)
        names = {name for _, _, headers in proxy.requests for name in headers}
    assert "authorization" in names
    assert not [name for name in names if "checksum" in name or "trailer" in name]


def test_pickled_s3_keeps_its_settings_and_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("SECRET_ACCESS_KEY", "ACCESS_KEY_ID", "SESSION_TOKEN"), SECRETS, strict=True):
        monkeypatch.setenv(f"AWS_{name}", value)
    storage = StorageConfig(endpoint_url="http://127.0.0.1:1", max_attempts=7)
    filesystem, _ = resolve("s3://bucket/x", storage)
    pickled = pickle.dumps(filesystem)
    again = pickle.loads(pickled)
    assert isinstance(again, S3FileSystem)
    assert again._storage == storage
    for secret in SECRETS:
        assert secret.encode() not in pickled
        assert secret not in repr(filesystem) + repr(storage) + repr(vars(filesystem))


def test_no_credentials_in_errors_or_logs(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in zip(("SECRET_ACCESS_KEY", "ACCESS_KEY_ID", "SESSION_TOKEN"), SECRETS, strict=True):
        monkeypatch.setenv(f"AWS_{name}", value)
    dead = StorageConfig(endpoint_url="http://127.0.0.1:1", max_attempts=1, connect_timeout_seconds=1)
    shown = []
    with caplog.at_level(logging.DEBUG, logger="pipeline"):
        for storage in (dead, s3_server.storage):
            with pytest.raises(OutputError) as control_error:
                open_object_store("s3://no-such-bucket-here/x", storage).write("y", b"z")
            filesystem, path = resolve("s3://no-such-bucket-here/x", storage)
            with pytest.raises(OSError, match="bucket") as data_error:
                filesystem.open_output_stream(path).close()
            shown += [str(control_error.value), repr(control_error.value), str(data_error.value)]
    assert all(secret not in text for text in [*shown, caplog.text] for secret in SECRETS)
    assert "s3://no-such-bucket-here/x/y" in shown[0]


def test_missing_credentials_name_the_fix(tmp_path: Path) -> None:
    code = (
        "from corpus_reranker.io.object_store import open_object_store\n"
        "from corpus_reranker.io.settings import StorageConfig\n"
        "open_object_store('s3://b/x', StorageConfig(endpoint_url='http://127.0.0.1:1')).write('y', b'')"
    )
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)
    assert "no AWS credentials found; set AWS_ACCESS_KEY_ID" in done.stderr


@pytest.mark.parametrize("key", ["input.path", "storage.endpoint_url"])
def test_url_with_credentials_is_refused(key: str) -> None:
    overrides = ["--engine.kind=simulated", "--engine.model=x", "--input.path=a", "--output.path=b"]
    with pytest.raises(ConfigError, match="credentials") as error:
        load_config(None, [*overrides, f"--{key}=s3://{SECRETS[1]}:{SECRETS[0]}@bucket/x"])
    assert not any(secret in str(error.value) for secret in SECRETS)
    with pytest.raises(ConfigError) as error:
        resolve(f"s3://{SECRETS[1]}:{SECRETS[0]}@bucket/x", StorageConfig())
    assert not any(secret in str(error.value) for secret in SECRETS)


def test_credentials_and_queries_are_removed_from_urls() -> None:
    assert redact("s3://key:secret@bucket/x y") == "s3://bucket/x y"
    assert redact("https://a.blob.core.windows.net/c/x?sig=secret") == "https://a.blob.core.windows.net/c/x"
    assert redact("/a/b@c?d") == "/a/b@c?d"
    assert InputConfig(path="/a/b@c").path == "/a/b@c"
