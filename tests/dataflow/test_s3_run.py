"""A run whose input and output are on S3, behind a proxy that injects faults."""

import os
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.schemas import LONG_INPUT
from corpus_reranker.io.sinks.data_files import list_data_files
from corpus_reranker.io.sinks.layout import Layout
from helpers.fault_proxy import Fault, FaultProxy, fault_proxy
from helpers.runs import check_ranking, config, query, rerank
from helpers.s3_server import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

FAULTS: list[Fault] = ["slow_down", "reset_before", "reset_in_body", "reset_after", "stall"]


def test_a_run_on_s3_completes_through_faults_and_resumes(any_s3_server: S3Server) -> None:
    sources = {row["query_id"]: row for row in map(query, range(24))}
    rows = [{**row, **candidate} for row in sources.values() for candidate in row["candidates"]]
    url = f"s3://{any_s3_server.bucket}/{uuid.uuid4().hex}"
    filesystem, path = resolve(f"{url}/in/a.parquet", any_s3_server.storage)
    pq.write_table(pa.Table.from_pylist(rows, LONG_INPUT), path, filesystem=filesystem)
    with fault_proxy(any_s3_server.endpoint_url, FAULTS, every=40, stall_seconds=2.0) as proxy:
        settings = config(
            url,
            f"--storage={{endpoint_url: {proxy.endpoint_url}, region: us-east-1, request_timeout_seconds: 1.0}}",
        )
        rerank(settings)
        output = Layout.of(settings.output, settings.storage)
        open_object_store(output.url, settings.storage).delete("_SUCCESS")
        for data_file in list_data_files(output.filesystem, output.folder)[:2]:
            output.filesystem.delete_file(data_file.path)
        manifest, lines = rerank(settings)
        assert all(proxy.injected[fault] for fault in FAULTS)
        check_requests(proxy, any_s3_server.bucket)
    assert manifest["queries_by_status"] == {"complete": 24}
    assert "16 of 24 queries are finished; reranking the rest" in lines
    data_files = list_data_files(filesystem, output.folder)
    output_rows = [
        row for data_file in data_files for row in pq.read_table(data_file.path, filesystem=filesystem).to_pylist()
    ]
    assert sorted(row["query_id"] for row in output_rows) == sorted(sources)
    for row in output_rows:
        check_ranking(row, sources[row["query_id"]])
    written = [
        filesystem.open_input_file(info.path).read() for info in list_files(filesystem, output.folder, recursive=True)
    ]
    assert len(written) > len(data_files) + 4
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert not any(os.environ[name].encode() in content for content in written)
        assert not any(os.environ[name] in line for line in lines)


def check_requests(proxy: FaultProxy, bucket: str) -> None:
    """Assert that no request of any process asks for the bucket, writes a folder, or has a checksum."""
    for method, path, headers in proxy.requests:
        key = path.partition("?")[0].removeprefix("/")
        assert not (method == "HEAD" and key.rstrip("/") == bucket), path
        assert not (method == "PUT" and key.endswith("/")), path
        assert not [name for name in headers if "checksum" in name or "trailer" in name], (method, path)
