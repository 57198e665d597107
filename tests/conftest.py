"""Fixtures for every test. Research-only test data is outside the repository, in ../shared."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import helpers.fuzzing  # noqa: F401 - registers the profiles of hypothesis
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.retrieval.java import find_java
from helpers.demo_model import demo_model_folder
from helpers.isolation import without_subprocess
from helpers.locations import Location, new_location
from helpers.paths import REPOSITORY, SHARED
from helpers.s3_server import S3Server, running_moto, running_s3_server, running_seaweedfs

# Ray's workers and other subprocesses import the package and the helpers from this checkout, too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(REPOSITORY / "pipeline"), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")]
)

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # one process less in every Ray
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # by default, each job starts a process for every CPU
os.environ.setdefault("RAY_enable_worker_prestart", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default, 15, starves its workers on a busy machine

_S3_SERVERS = ("s3_server", "moto", "seaweedfs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use Ray or an S3 server. Their files run first, so that pytest's workers finish together."""
    slow_files = set()
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "ray_cluster" in fixtures:
            item.add_marker(pytest.mark.ray)
        callspec = getattr(item, "callspec", None)
        parameters = callspec.params.values() if callspec else ()
        if any(name in fixtures or name in parameters for name in _S3_SERVERS):
            item.add_marker(pytest.mark.s3)
        if any(map(item.get_closest_marker, ("slow", "ray", "s3"))):
            slow_files.add(item.path)
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of research-only test data. Tests that use it are skipped if it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no research-only test data at {SHARED}; set RERANKER_SHARED to its folder")
    return SHARED


@pytest.fixture(scope="session")
def jvm() -> Iterator[Callable[..., Any]]:
    """Call a function in a subprocess, in which a JVM may start."""
    pytest.importorskip("pyserini")
    try:
        find_java()
    except ConfigError as error:
        pytest.skip(str(error))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=300)


@pytest.fixture(scope="session")
def s3_credentials() -> Iterator[None]:
    """Credentials of the S3 servers in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        if "RERANKER_TEST_S3_ENDPOINT" not in os.environ:
            patch.setenv("AWS_ACCESS_KEY_ID", "test-access-key-id")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-access-key")
            patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def s3_server(s3_credentials: None) -> Iterator[S3Server]:
    """moto in its own process, or the server that RERANKER_TEST_S3_ENDPOINT names."""
    with running_s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto(s3_credentials: None) -> Iterator[S3Server]:
    """moto in its own process, which checks no signatures: a proxy can change its requests."""
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs(s3_credentials: None) -> Iterator[S3Server]:
    """SeaweedFS in its own process."""
    if "RERANKER_TEST_S3_ENDPOINT" in os.environ:
        pytest.skip("RERANKER_TEST_S3_ENDPOINT names the server of all tests")
    with running_seaweedfs() as server:
        yield server


@pytest.fixture(params=["s3_server", "seaweedfs"])
def any_s3_server(request: pytest.FixtureRequest) -> S3Server:
    """A test with this fixture runs on moto and on SeaweedFS."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(params=["local", "s3_server", "seaweedfs"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A new folder. A test with this fixture runs on local disk, on moto and on SeaweedFS."""
    return new_location(request, tmp_path)


@pytest.fixture
def local_location(tmp_path: Path) -> Location:
    return Location(str(tmp_path), StorageConfig())


@pytest.fixture
def no_subprocess(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver reads its input and output in this process, which saves half a second of CPU time for each run."""
    without_subprocess(monkeypatch)


@pytest.fixture(scope="session")
def ray_cluster(s3_credentials: None) -> Iterator[None]:
    """Local Ray, one for the session. Its workers inherit the credentials of the S3 servers."""
    import ray

    from corpus_reranker.dataflow.cluster import connect
    from helpers.ray_cluster import start_again

    start_again(connect)()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_environment(ray_cluster: None) -> dict[str, str]:
    """Environment variables of a process that connects to the session's Ray."""
    import ray

    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """Folder of SmolLM2-135M-Instruct for vLLM."""
    return demo_model_folder()
