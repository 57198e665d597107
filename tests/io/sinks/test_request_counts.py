"""The requests that a sink sends to S3 grow linearly with its data files and its failed queries, and stay few."""

import asyncio
import uuid
from collections.abc import Callable

import pyarrow as pa
import pytest

from corpus_reranker.io.quarantine import QuarantineWriter
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.types import RerankResult, WindowOutcome
from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.locations import Location
from helpers.outputs import SCHEMA, write_data_file
from helpers.s3_server import S3Server

MAX_REQUESTS = {"prepare": 4, "finish": 10, "retry of failed queries": 5}
"""For each data file. The commit copies and deletes a file, and looks at the copy. A retry prepares as well, and
deletes the quarantine file of each failed query: one in a file."""


FAILED = WindowOutcome(0, 20, "error", attempts=2, prompt_tokens=0, output_tokens=0, latency_seconds=1.0)


def requests_by_step(server: S3Server, proxy: FaultProxy, parts: int) -> dict[str, int]:
    """Prepare, finish and retry an output of `parts` data files, each with one failed query."""
    storage = StorageConfig(endpoint_url=proxy.endpoint_url, region="us-east-1")
    location = Location(f"s3://{server.bucket}/{uuid.uuid4().hex}", storage)
    query_ids = [f"q{part}" for part in range(parts)]
    column = pa.chunked_array([query_ids])
    sink = ParquetSink(location.output(), storage)
    sink.begin({"model": "m"}, parts, config_yaml="")
    writer = QuarantineWriter(sink.layout)
    for query_id in query_ids:
        write_data_file(location, f"{query_id}.parquet", [query_id], "failed")
        asyncio.run(writer.write(RerankResult(query_id, "failed", (0,), (FAILED,))))

    def count(step: Callable[[], object]) -> int:
        before = len(proxy.requests)
        step()
        return len(proxy.requests) - before

    return {
        "prepare": count(lambda: sink.prepare(column)),
        "finish": count(lambda: sink.finish(sink.prepare(column), SCHEMA)),
        "retry of failed queries": count(lambda: sink.prepare(column, retry=["failed"])),
    }


@pytest.mark.slow
def test_requests_grow_linearly_with_a_small_constant(moto: S3Server) -> None:
    with fault_proxy(moto.endpoint_url) as proxy:
        few, many = (requests_by_step(moto, proxy, parts) for parts in (10, 40))
    grown = {step: (many[step] - few[step]) / 30 for step in few}
    assert all(grown[step] <= MAX_REQUESTS[step] for step in MAX_REQUESTS), grown
