"""The commands on a store or file system that refuses requests: one line, exit code 2, and no engine has started."""

import errno
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from corpus_reranker.io.sinks.parquet import ParquetSink
from helpers.command_line import check_refused, run_command
from helpers.fault_proxy import fault_proxy
from helpers.locations import Location
from helpers.outputs import input_row, write, write_data_file
from helpers.runs import query, write_input
from helpers.s3_server import S3Server
from helpers.store_behaviors import STORE_BEHAVIORS

DENIED = "check the permissions"
WRONG_REGION = "check storage.region"


@pytest.fixture(scope="module")
def s3_output(moto: S3Server) -> Location:
    """An input, and an unfinished output with one data file."""
    location = Location(f"s3://{moto.bucket}/{uuid.uuid4().hex}", moto.storage)
    write(location, "in/a.parquet", [input_row("q0")])
    ParquetSink(location.output(), location.storage).begin({"model": "m"}, 1, config_yaml="")
    write_data_file(location, "0.parquet", ["q0"])
    return location


@pytest.mark.parametrize("behavior", ["no_date", "no_last_modified", "no_etag"])
def test_status_without_date_or_etag(moto: S3Server, s3_output: Location, behavior: str) -> None:
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        result = run_command("status", f"{s3_output.url}/out", *storage_overrides(proxy.endpoint_url))
    assert (result.exit_code, result.stderr) == (4, "")
    assert "done: 1 of 1 query" in result.stdout


@pytest.mark.parametrize(
    ("command", "behavior", "reason"),
    [
        ("status", "403_to_list", DENIED),
        ("status", "403_to_get", DENIED),
        ("status", "301_wrong_region", WRONG_REGION),
        ("status", "400_wrong_region", WRONG_REGION),
        ("export", "403_to_list", DENIED),
        ("export", "403_to_head", DENIED),
        ("export", "400_wrong_region", WRONG_REGION),
        ("rerank", "403_to_list", DENIED),
        ("rerank", "403_to_head", DENIED),
        ("rerank", "301_wrong_region", WRONG_REGION),
        ("rerank", "400_wrong_region", WRONG_REGION),
        ("rerank", "403_to_put", DENIED),
        ("rerank", "ignores_if_match", "ignores the condition If-Match"),
        ("rerank", "501_to_if_none_match", "with If-None-Match"),
    ],
)
def test_a_refused_request_is_a_message_without_a_traceback(
    moto: S3Server, s3_output: Location, tmp_path: Path, command: str, behavior: str, reason: str
) -> None:
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        arguments = {
            "status": [f"{s3_output.url}/out"],
            "export": [f"{s3_output.url}/out", "--to=trec", f"--destination={tmp_path}"],
            "rerank": [f"--input.path={s3_output.url}/in", f"--output.path={s3_output.url}/new", *SIMULATED],
        }[command]
        result = run_command(command, *arguments, *storage_overrides(proxy.endpoint_url))
    check_refused(result, reason)
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 700


SIMULATED = ["--engine.kind=simulated", "--engine.model=none"]


def storage_overrides(endpoint_url: str) -> list[str]:
    return [f"--storage={{endpoint_url: {endpoint_url}, region: us-east-1, max_attempts: 2}}"]


def file_instead_of_the_folder(folder: Path) -> Path:
    (folder / "out").touch()
    return folder / "out"


def file_instead_of_the_parent(folder: Path) -> Path:
    (folder / "parent").touch()
    return folder / "parent" / "out"


def folder_instead_of_the_lease(folder: Path) -> Path:
    (folder / "out" / "_lease.json").mkdir(parents=True)
    return folder / "out"


@pytest.mark.parametrize(
    "output", [file_instead_of_the_folder, file_instead_of_the_parent, folder_instead_of_the_lease]
)
def test_rerank_to_a_folder_with_a_file_in_the_way(tmp_path: Path, output: Callable[[Path], Path]) -> None:
    write_input(tmp_path / "in", [query(0)])
    result = run_command("rerank", f"--input.path={tmp_path}/in", f"--output.path={output(tmp_path)}", *SIMULATED)
    check_refused(result, "in the way; choose another")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_rerank_to_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_input(tmp_path / "in", [query(0)])

    def fail(descriptor: int) -> None:
        raise OSError(number, "the reason")

    monkeypatch.setattr("os.fsync", fail)
    result = run_command("rerank", f"--input.path={tmp_path}/in", f"--output.path={tmp_path}/out", *SIMULATED)
    check_refused(result, f"cannot write the output: [Errno {number}] the reason")
    assert result.stderr.count("\n") == 1


def test_rerank_to_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "in", [query(0)])

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    result = run_command("rerank", f"--input.path={tmp_path}/in", f"--output.path={tmp_path}/out", *SIMULATED)
    check_refused(result, "has no file locks")
    assert result.stderr.count("\n") == 1
