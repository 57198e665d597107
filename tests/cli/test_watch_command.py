"""The command `watch`: what it shows and when it stops."""

import json
from pathlib import Path

import pytest

from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.run_progress import ReplicaProgress, RunProgress, write_progress
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.layout import progress_name
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.io.sinks.run_record import create_run
from corpus_reranker.io.spend import Spend
from helpers.command_line import check_refused, run_command

PROGRESS_NOW = RunProgress(
    queries=2000,
    done=500,
    queries_per_second=0.25,
    windows_per_second=2.5,
    output_tokens_per_second=1875.0,
    eta_seconds=6000.0,
    counts={"queries_complete": 399, "queries_failed": 1, "windows_complete": 3591, "windows_error": 9},
    replicas=tuple(ReplicaProgress(f"gpu-{n}:7", 1.0, 256, 250 - n, 256, 1.25, 937.5) for n in range(25)),
    recent_errors=("q17: no [completion] within 1800 s",),
    spend=Spend(2_000_000, 500_000, 30_000, 12.5),
    max_cost=20.0,
)


def watch(folder: Path, *arguments: str) -> tuple[int, str]:
    result = run_command("watch", str(folder), *arguments)
    return result.exit_code, result.output


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    code, shown = watch(tmp_path)
    assert (code, "no run has started here" in shown) == (4, True)


def test_the_view_of_a_live_run_shows_progress_and_replicas(tmp_path: Path) -> None:
    control = open_object_store(str(tmp_path), StorageConfig())
    run = create_run(control, {}, 2000)
    with Lease(control, 60):
        write_progress(control, run, PROGRESS_NOW)
        code, shown = watch(tmp_path, "--once")
    assert code == 4
    for expected in (
        "500 of 2,000 queries, 25.0%",
        "ETA 1:40:00",
        "5,950 of 6,400 windows in flight",
        "399 complete, 1 failed",
        "3,591 complete, 9 error",
        "cost: 12.50 for 2,000,000 prompt tokens",
        "7.50 left of max_cost 20.00",
        "no [completion] within 1800 s",
        "gpu-24:7",
        "and 5 more",
    ):
        assert expected in shown
    assert "gpu-0:7" not in shown  # the fullest replicas are omitted first


def test_watching_stops_with_the_run(tmp_path: Path) -> None:
    control = open_object_store(str(tmp_path), StorageConfig())
    run = create_run(control, {}, 2000)
    write_progress(control, run, PROGRESS_NOW)
    code, shown = watch(tmp_path)
    assert (code, "writer: none" in shown) == (4, True)
    control.write("_SUCCESS", b"")
    code, shown = watch(tmp_path)
    assert (code, f"finished, run {run.run_id}" in " ".join(shown.split())) == (0, True)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", json.dumps({"replicas": [{"x": 1}], "recent_errors": []}).encode()]
)
def test_progress_of_another_version_is_ignored(tmp_path: Path, body: bytes) -> None:
    control = open_object_store(str(tmp_path), StorageConfig())
    run = create_run(control, {}, 2000)
    control.write(progress_name(run.run_id, run.starts), body)
    code, shown = watch(tmp_path)
    assert (code, "0 of 2,000 queries" in shown) == (4, True)


def test_in_a_terminal_the_view_is_updated_until_the_run_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = open_object_store(str(tmp_path), StorageConfig())
    create_run(control, {}, 2000)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            control.write("_SUCCESS", b"")

    monkeypatch.setattr("corpus_reranker.cli.watch.time.sleep", wait)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Lease(control, 60):
        code, shown = watch(tmp_path, "--every-seconds", "7")
    assert (code, waits) == (0, [7.0, 7.0, 7.0])
    assert "finished" in shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the command has waited; they pass at once."""
    waits: list[float] = []
    monkeypatch.setattr("corpus_reranker.cli.watch.time.sleep", waits.append)
    monkeypatch.setattr("corpus_reranker.cli.watch.time.monotonic", lambda: sum(waits))
    return waits


def test_waiting_ends_two_minutes_after_the_last_writer(tmp_path: Path, clock: list[float]) -> None:
    code, shown = watch(tmp_path, "--wait", "--every-seconds", "50")
    assert (code, clock) == (4, [50.0] * 3)
    assert shown.count("no run has started here") == 1
    refused = run_command("watch", str(tmp_path), "--wait", "--once")
    check_refused(refused, "leave out --once or --wait")


def test_waiting_continues_until_a_run_that_starts_later_is_finished(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = open_object_store(str(tmp_path), StorageConfig())
    lease = Lease(control, 60)

    def sleep(seconds: float) -> None:
        clock.append(seconds)
        if len(clock) == 2:
            create_run(control, {}, 2000)
            lease.__enter__()
        elif len(clock) == 9:
            control.write("_SUCCESS", b"")
            lease.__exit__(None, None, None)

    monkeypatch.setattr("corpus_reranker.cli.watch.time.sleep", sleep)
    code, shown = watch(tmp_path, "--wait", "--every-seconds", "50")
    assert (code, len(clock)) == (0, 9)
    assert "finished" in shown
