"""Reads and writes through a network with faults: the data are right, or an error is raised."""

import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids
from helpers.fault_proxy import Fault, fault_proxy
from helpers.locations import Location
from helpers.outputs import SCHEMA, input_row, read_rows, write, write_data_file
from helpers.s3_server import S3Server

QUERY_IDS = [f"q{number}" for number in range(6)]


def location_at(endpoint_url: str, bucket: str) -> Location:
    storage = StorageConfig(
        endpoint_url=endpoint_url, region="us-east-1", request_timeout_seconds=1.0, connect_timeout_seconds=1.0
    )
    return Location(f"s3://{bucket}/{uuid.uuid4().hex}", storage)


@pytest.mark.parametrize(
    ("faults", "every"),
    [(["slow_down", "reset_before", "reset_in_body", "reset_after"], 4), (["stall"], 12)],
    ids=["errors", "stalls"],
)
def test_a_job_survives_faults_of_the_object_store(s3_server: S3Server, faults: list[Fault], every: int) -> None:
    with fault_proxy(s3_server.endpoint_url, faults, every=every, stall_seconds=2.5) as proxy:
        location = location_at(proxy.endpoint_url, s3_server.bucket)
        write(location, "in/a.parquet", [input_row(each) for each in QUERY_IDS])
        query_ids = read_query_ids(read_nested_files(location.input(), location.storage))
        sink = ParquetSink(location.output(), location.storage)
        sink.begin({"model": "m"}, len(QUERY_IDS), config_yaml="")
        sink.prepare(query_ids)
        write_data_file(location, "0.parquet", QUERY_IDS[:4])
        write_data_file(location, "1.parquet", QUERY_IDS[3:])
        sink.finish(sink.prepare(query_ids), SCHEMA)
        assert all(proxy.injected[fault] >= 2 for fault in faults)
    clean = Location(location.url, s3_server.storage)
    assert sorted(row["query_id"] for row in read_rows(clean)) == QUERY_IDS
    assert ParquetSink(clean.output(), clean.storage).check({"model": "m"}) is True


def test_lease_through_faults(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus_reranker.io.sinks.lease.RENEWALS_PER_LEASE", 20)
    faults: list[Fault] = ["slow_down", "reset_after", "wrong_etag", "reset_before"]
    with fault_proxy(s3_server.endpoint_url, faults, every=2) as proxy:
        location = location_at(proxy.endpoint_url, s3_server.bucket)
        with ParquetSink(location.output(lease_seconds=60), location.storage).lease() as lease:
            while proxy.injected.total() < len(faults):  # it renews every three seconds
                assert not lease._stopping.wait(0.1)
                lease.check()


def test_multipart_upload_through_faults(s3_server: S3Server) -> None:
    """Over 10 MB, so that it is uploaded in parts."""
    faults: list[Fault] = ["slow_down", "reset_before", "reset_in_body"]
    table = pa.table({"x": pa.array(range(3_000_000), pa.int64())})
    with fault_proxy(s3_server.endpoint_url, faults, every=3) as proxy:
        location = location_at(proxy.endpoint_url, s3_server.bucket)
        filesystem, path = resolve(f"{location.url}/x.parquet", location.storage)
        pq.write_table(table, path, filesystem=filesystem, compression="none", use_dictionary=False)
        assert pq.read_table(path, filesystem=filesystem).equals(table)
        assert proxy.injected.total() >= 2


def test_multipart_upload_with_a_wrong_etag_fails(s3_server: S3Server) -> None:
    table = pa.table({"x": pa.array(range(3_000_000), pa.int64())})
    with fault_proxy(s3_server.endpoint_url, ["wrong_etag"], every=1) as proxy:
        location = location_at(proxy.endpoint_url, s3_server.bucket)
        filesystem, path = resolve(f"{location.url}/x.parquet", location.storage)
        with pytest.raises(OSError, match="CompleteMultipartUpload"):
            pq.write_table(table, path, filesystem=filesystem, compression="none", use_dictionary=False)
    clean, _ = resolve(location.url, s3_server.storage)
    assert clean.get_file_info(path).type.name == "NotFound"
