"""`vllm serve` on the CPU, in a process group of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_SECONDS = 300.0
_POLL_SECONDS = 0.5

_SERVER = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` starts. The command itself looks for the version of a package vllm, which the CPU build is not."""


@contextmanager
def vllm_server(model: Path, name: str, log: Path, *options: str) -> Iterator[str]:
    """Serve `model` under `name` until the context exits, and yield the URL of the server. `log` takes its output."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", _SERVER, "--model", str(model), "--served-model-name", name]
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(f"{url}/health", process, log)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=_POLL_SECONDS):
                return
        except OSError:
            time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"vllm serve does not answer:\n{log.read_text(errors='replace')[-3000:]}")
