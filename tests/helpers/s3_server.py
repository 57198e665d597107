"""An S3 server for the tests: a moto server in its own process, or an existing server.

For an existing server, set RERANKER_TEST_S3_ENDPOINT=http://host:port and the usual AWS variables for credentials.
"""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from corpus_reranker.io.s3_client import open_s3fs
from corpus_reranker.io.settings import StorageConfig

START_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """The URL of the server, and a bucket for this session. The environment has the credentials."""

    endpoint_url: str
    bucket: str

    @property
    def storage(self) -> StorageConfig:
        return StorageConfig(endpoint_url=self.endpoint_url, region="us-east-1", max_attempts=3)


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """The server that RERANKER_TEST_S3_ENDPOINT names, else a moto server that stops when the context exits."""
    if endpoint_url := os.environ.get("RERANKER_TEST_S3_ENDPOINT"):
        yield S3Server(endpoint_url, _create_bucket(endpoint_url))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_listening(port, process)
        endpoint_url = f"http://127.0.0.1:{port}"
        yield S3Server(endpoint_url, _create_bucket(endpoint_url))
    finally:
        process.kill()
        process.wait()


def _create_bucket(endpoint_url: str) -> str:
    bucket = f"test-{uuid.uuid4().hex}"
    open_s3fs(StorageConfig(endpoint_url=endpoint_url, region="us-east-1")).call_s3("create_bucket", Bucket=bucket)
    return bucket


def _wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"moto's server ended with code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"moto's server does not listen on port {port} after {START_SECONDS} s")
