"""Errors of the store while a run holds the lease."""

import errno

import pytest

from corpus_reranker.errors import OutputError, RerankerError, RunError, StoreUnavailableError, TransientRunError
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.run.output_lease import output_lease
from helpers.fault_proxy import fault_proxy
from helpers.locations import Location
from helpers.s3_server import S3Server


def raised_from(sink: ParquetSink, error: Exception) -> RerankerError:
    """What a run ends with if `error` is raised under the lease."""
    with pytest.raises(RerankerError) as raised, output_lease(sink):
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), TransientRunError),
        (OSError("AWS Error NETWORK_CONNECTION"), TransientRunError),
        (StoreUnavailableError("cannot write x: timeout"), TransientRunError),
        (PermissionError(errno.EACCES, "Permission denied"), OutputError),
        (OSError("AWS Error ACCESS_DENIED during ListObjectsV2 operation"), OutputError),
        (OutputError("holds another run"), OutputError),
    ],
)
def test_only_a_transient_error_can_be_resumed(
    local_location: Location, error: Exception, expected: type[RerankerError]
) -> None:
    sink = ParquetSink(local_location.output(), local_location.storage)
    assert type(raised_from(sink, error)) is expected


def test_unreachable_store_can_be_resumed(s3_server: S3Server) -> None:
    with fault_proxy(s3_server.endpoint_url) as proxy:
        storage = s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url, "max_attempts": 1})
        sink = ParquetSink(Location(f"s3://{s3_server.bucket}/unreachable", storage).output(), storage)

        def begin() -> None:
            with output_lease(sink):
                proxy.unreachable.set()
                sink.begin({}, 1, config_yaml="")

        with pytest.raises(RunError, match="the run failed: EndpointConnectionError"):
            begin()
