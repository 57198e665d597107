"""Runs of date partitions as a scheduler starts them: day after day, each with the rows of the last, and repeatedly."""

from pathlib import Path

import pytest

from helpers.command_line import run_command
from helpers.runs import query, rows_of_folder, write_input

pytestmark = pytest.mark.usefixtures("ray_cluster")


def run(folder: Path, date: str) -> tuple[int, str]:
    result = run_command(
        "rerank",
        "--date",
        date,
        f"--input.path={folder}/in/dt={{date}}",
        f"--output.path={folder}/out/dt={{date}}",
        f"--reuse.outputs={folder}/out/dt={{date-1}}",
        "--engine.kind=scripted",
        "--strategy={window: 4, stride: 2}",
        "--cluster={replicas: 1, queries_per_block: 2}",
    )
    return result.exit_code, result.output


def content(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_day_is_kept_and_the_next_day_is_run(tmp_path: Path) -> None:
    for day in ("2026-11-24", "2026-11-25"):
        write_input(tmp_path / f"in/dt={day}", [query(number) for number in range(int(day[-2:]) - 20)])
    code, output = run(tmp_path, "2026-11-24")
    assert (code, "dt=2026-11-23 is not reused: there is no output" in output) == (0, True), output
    first = content(tmp_path / "out")
    code, output = run(tmp_path, "2026-11-24")
    assert (code, "nothing to do" in output) == (0, True), output
    assert content(tmp_path / "out") == first
    code, output = run(tmp_path, "2026-11-25")
    assert (code, "5 complete (4 reused from earlier outputs)" in output) == (0, True), output
    assert content(tmp_path / "out").items() >= first.items()
    assert [len(rows_of_folder(tmp_path / f"out/dt={day}")) for day in ("2026-11-24", "2026-11-25")] == [4, 5]
    rows = rows_of_folder(tmp_path / "out/dt=2026-11-25")
    assert sorted(rows) == [f"q{number:04}" for number in range(5)]
    reused = [query_id for query_id, row in rows.items() if row["reused_from"] == f"{tmp_path}/out/dt=2026-11-24"]
    assert sorted(reused) == ["q0000", "q0001", "q0002", "q0003"]
    assert len(rows["q0004"]["request_fingerprint"]) == 32
    assert "dt" not in rows["q0000"]  # the partition is the name of a folder, not a column
    code, output = run(tmp_path, "2026-11-26")
    assert (code, "dt=2026-11-26" in output) == (2, True), output
