"""Settings of storage that change the requests to S3."""

import pickle
import uuid

import pytest

from corpus_reranker.errors import ConfigError
from corpus_reranker.io import s3_client
from corpus_reranker.io.filesystem import S3FileSystem, delete_folder, list_files, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids
from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.locations import Location
from helpers.outputs import SCHEMA, input_row, read_rows, write, write_data_file
from helpers.s3_server import S3Server


def job(proxy: FaultProxy, bucket: str, **settings: object) -> None:
    """Every kind of request that a run sends: list, read, write, move, delete, and the lease."""
    storage = StorageConfig.model_validate({"endpoint_url": proxy.endpoint_url, "region": "us-east-1", **settings})
    location = Location(f"s3://{bucket}/{uuid.uuid4().hex}", storage)
    write(location, "in/a.parquet", [input_row("q0"), input_row("q1")])
    query_ids = read_query_ids(read_nested_files(location.input().path, storage))
    sink = pickle.loads(pickle.dumps(ParquetSink(location.output(), storage)))
    with sink.lease():
        sink.begin({"model": "m"}, 2, config_yaml="")
        sink.prepare(query_ids)
        write_data_file(location, "part-0.parquet", ["q0", "q1"])
        write_data_file(location, "part-1.parquet", ["q1"])
        sink.finish(sink.prepare(query_ids), SCHEMA)
    assert sorted(row["query_id"] for row in read_rows(location)) == ["q0", "q1"]
    filesystem, path = resolve(f"{location.url}/out", storage)
    delete_folder(filesystem, path)
    assert list_files(filesystem, path, recursive=True) == []


def test_requester_pays(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        job(proxy, s3_server.bucket, requester_pays=True)
    assert {method for method, _, _ in proxy.requests} >= {"GET", "PUT", "DELETE"}
    without = [(method, path) for method, path, headers in proxy.requests if "x-amz-request-payer" not in headers]
    assert without == []


def test_kms_key(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        job(proxy, s3_server.bucket, kms_key_id="alias/key")
    written = [headers for method, path, headers in proxy.requests if method == "PUT" or path.endswith("?uploads")]
    assert written
    assert {headers.get("x-amz-server-side-encryption-aws-kms-key-id") for headers in written} == {"alias/key"}


def test_region_auto_is_that_of_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def region_of(bucket: str) -> str:
        if bucket == "missing":
            raise OSError("Bucket 'missing' not found")
        asked.append(bucket)
        return "eu-north-1"

    s3_client._bucket_region.cache_clear()
    monkeypatch.setattr(s3_client, "resolve_s3_region", region_of)
    storage = StorageConfig(region="auto")
    for _ in range(2):
        filesystem, _ = resolve("s3://b/x", storage)
        assert isinstance(filesystem, S3FileSystem)
        assert filesystem.region == "eu-north-1"
    open_object_store("s3://b/x", storage)
    assert asked == ["b"]
    with pytest.raises(ConfigError, match="cannot find the region of bucket missing"):
        resolve("s3://missing/x", storage)


def test_region_auto_of_another_store_is_the_word(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        job(proxy, s3_server.bucket, region="auto")
    assert all("/auto/s3/aws4_request" in headers["authorization"] for _, _, headers in proxy.requests)
