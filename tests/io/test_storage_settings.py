"""Settings of storage that change the requests to S3."""

import pickle
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io import s3_client
from corpus_reranker.io.filesystem import S3FileSystem, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.registry import open_source
from helpers.fault_proxy import fault_proxy
from helpers.outputs import input_row
from helpers.s3_server import S3Server
from helpers.sink_job import run_sink_job
from helpers.store_behaviors import STORE_BEHAVIORS
from helpers.tables import TABLES, DeltaTestTable, IcebergTestTableOnS3, LanceTestTable, TestTable


def test_every_request_has_the_header_for_requester_pays(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        run_sink_job(proxy.endpoint_url, s3_server.bucket, requester_pays=True)
    assert {method for method, _, _ in proxy.requests} >= {"GET", "PUT", "DELETE"}
    without = [(method, path) for method, path, headers in proxy.requests if "x-amz-request-payer" not in headers]
    assert without == []


def test_every_object_is_encrypted_with_the_kms_key(moto: S3Server) -> None:
    with fault_proxy(moto.endpoint_url) as proxy:
        run_sink_job(proxy.endpoint_url, moto.bucket, kms_key_id="alias/key")
    written = [headers for method, path, headers in proxy.requests if method == "PUT" or path.endswith("?uploads")]
    assert written
    assert {headers.get("x-amz-server-side-encryption-aws-kms-key-id") for headers in written} == {"alias/key"}


def test_region_auto_is_that_of_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    def region_of(bucket: str) -> str:
        if bucket == "missing":
            raise OSError("Bucket 'missing' not found")
        requested.append(bucket)
        return "eu-north-1"

    s3_client._bucket_region.cache_clear()
    monkeypatch.setattr(s3_client, "resolve_s3_region", region_of)
    storage = StorageConfig(region="auto")
    for _ in range(2):
        filesystem, _ = resolve("s3://b/x", storage)
        assert isinstance(filesystem, S3FileSystem)
        assert filesystem.region == "eu-north-1"
    open_object_store("s3://b/x", storage)
    assert requested == ["b"]
    with pytest.raises(ConfigError, match="cannot find the region of bucket missing"):
        resolve("s3://missing/x", storage)


def test_region_auto_of_another_store_stays_the_word_auto(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        run_sink_job(proxy.endpoint_url, s3_server.bucket, region="auto")
    assert all("/auto/s3/aws4_request" in headers["authorization"] for _, _, headers in proxy.requests)


@pytest.mark.parametrize("table_class", [DeltaTestTable, LanceTestTable])
def test_tables_are_read_with_the_settings_of_storage(
    table_class: type[TestTable], s3_server: S3Server, tmp_path: Path
) -> None:
    table = table_class(tmp_path / "table")
    table.append(pa.Table.from_pylist([input_row("q1"), input_row("q2")], NESTED_INPUT))
    url = f"s3a://{s3_server.bucket}/{table.format}"
    filesystem, folder = resolve(url, s3_server.storage)
    pafs.copy_files(table.path, folder, destination_filesystem=filesystem)
    settings = InputConfig(path=url, format=table.format)
    with fault_proxy(s3_server.endpoint_url) as proxy:
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url, "requester_pays": True})
        source = open_source(settings, storage)
        assert [query_id for part in source.tables() for query_id in part["query_id"].to_pylist()] == ["q1", "q2"]
    assert proxy.requests
    assert all("x-amz-request-payer" in headers for _, _, headers in proxy.requests)
    with pytest.raises(InputError, match="cannot be read"):
        open_source(settings.model_copy(update={"path": f"{url}-missing"}), s3_server.storage)


@pytest.mark.parametrize("format_name", sorted(TABLES))
def test_versions_of_tables_on_s3(format_name: str, any_s3_server: S3Server, tmp_path: Path) -> None:
    storage = any_s3_server.storage
    url = f"s3://{any_s3_server.bucket}/{uuid.uuid4().hex}"
    table = TABLES[format_name](tmp_path / "table")
    if format_name == "iceberg":
        table = IcebergTestTableOnS3(tmp_path / "catalog", url, storage)
    first = table.append(pa.Table.from_pylist([input_row("q1"), input_row("q2")], NESTED_INPUT))
    table.append(pa.Table.from_pylist([input_row("q3")], NESTED_INPUT))
    settings = table.settings()
    if format_name != "iceberg":
        filesystem, folder = resolve(url, storage)
        pafs.copy_files(table.path, folder, destination_filesystem=filesystem)
        settings = InputConfig(path=url, format=format_name)

    def ids(settings: InputConfig) -> list[str]:
        source = pickle.loads(pickle.dumps(open_source(settings, storage)))
        return sorted(query_id for part in source.tables() for query_id in part["query_id"].to_pylist())

    assert ids(settings) == ["q1", "q2", "q3"]
    assert ids(settings.model_copy(update={"version": first})) == ["q1", "q2"]
    with pytest.raises(InputError) as refused:
        ids(settings.model_copy(update={"version": "77"}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("format_name", ["delta", "lance"])
def test_reading_a_table_without_permission_or_credentials_is_one_line(
    format_name: str, moto: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = InputConfig(path=f"s3://{moto.bucket}/table", format=format_name)
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS["403_to_list"]) as proxy:
        storage = moto.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})
        with pytest.raises(InputError, match=r"cannot be read: .*AccessDenied.*; check the permissions") as refused:
            open_source(settings, storage)
    assert "\n" not in str(refused.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"cannot be read: .*; set AWS_ACCESS_KEY_ID and") as refused:
        open_source(settings, moto.storage)
    assert "\n" not in str(refused.value)
