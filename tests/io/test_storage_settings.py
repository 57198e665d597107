"""Settings of storage that change the requests to S3."""

import pytest

from corpus_reranker.errors import ConfigError
from corpus_reranker.io import s3_client
from corpus_reranker.io.filesystem import S3FileSystem, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.settings import StorageConfig
from helpers.fault_proxy import fault_proxy
from helpers.s3_server import S3Server
from helpers.sink_job import run_sink_job


def test_requester_pays(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        run_sink_job(proxy.endpoint_url, s3_server.bucket, requester_pays=True)
    assert {method for method, _, _ in proxy.requests} >= {"GET", "PUT", "DELETE"}
    without = [(method, path) for method, path, headers in proxy.requests if "x-amz-request-payer" not in headers]
    assert without == []


def test_kms_key(moto: S3Server) -> None:
    with fault_proxy(moto.endpoint_url) as proxy:
        run_sink_job(proxy.endpoint_url, moto.bucket, kms_key_id="alias/key")
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
        run_sink_job(proxy.endpoint_url, s3_server.bucket, region="auto")
    assert all("/auto/s3/aws4_request" in headers["authorization"] for _, _, headers in proxy.requests)
