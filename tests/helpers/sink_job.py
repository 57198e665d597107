"""What a rerank job does to a store, without Ray: every kind of request, in seconds."""

import pickle
import uuid

from corpus_reranker.io.filesystem import delete_folder, list_files, resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids
from helpers.locations import Location
from helpers.outputs import SCHEMA, input_row, read_rows, write, write_data_file


def run_sink_job(endpoint_url: str, bucket: str, **settings: object) -> None:
    """Write an input and a finished output under the lease, check its rows, and discard it."""
    storage = StorageConfig.model_validate({"endpoint_url": endpoint_url, "region": "us-east-1", **settings})
    location = Location(f"s3://{bucket}/{uuid.uuid4().hex}", storage)
    write(location, "in/a.parquet", [input_row("q0"), input_row("q1")])
    query_ids = read_query_ids(read_nested_files(location.input(), storage))
    sink = pickle.loads(pickle.dumps(ParquetSink(location.output(), storage)))
    with sink.lease():
        sink.begin({"model": "m"}, 2, config_yaml="")
        sink.prepare(query_ids)
        write_data_file(location, "0.parquet", ["q0", "q1"])
        write_data_file(location, "1.parquet", ["q1"])
        sink.finish(sink.prepare(query_ids), SCHEMA)
    assert sink.check({"model": "m"}) is True
    assert sorted(row["query_id"] for row in read_rows(location)) == ["q0", "q1"]
    filesystem, path = resolve(f"{location.url}/out", storage)
    delete_folder(filesystem, path)
    assert list_files(filesystem, path, recursive=True) == []
