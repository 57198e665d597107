"""A step is a process: what it writes, what it prints and how long it takes decide what the table shows."""

import os
from pathlib import Path

import pytest

from gpu_check import steps
from gpu_check.__main__ import ENGINE_STEPS, JOB_STEP, parse
from gpu_check.__main__ import steps as planned_steps
from gpu_check.steps import Step, run_step


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the check that a test writes; steps run it instead of their own."""
    package = tmp_path / "gpu_check"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return package / "step.py"


def result_of(tmp_path: Path, limit_seconds: float = 60) -> steps.StepResult:
    return run_step(Step("engine", "step", ("first",), limit_seconds), tmp_path, os.environ)


def test_figures_are_what_the_step_writes(tmp_path: Path, script: Path) -> None:
    script.write_text("import json, pathlib, sys\npathlib.Path(sys.argv[2]).write_text(json.dumps({'a': sys.argv[1]}))")
    result = result_of(tmp_path)
    assert result.figures == {"a": "first"}
    assert result.reason is None


def test_a_reason_that_the_step_writes_is_the_reason(tmp_path: Path, script: Path) -> None:
    script.write_text('import pathlib, sys\npathlib.Path(sys.argv[2]).write_text(\'{"reason": "no GPU"}\')')
    result = result_of(tmp_path)
    assert (result.figures, result.reason) == (None, "no GPU")


def test_a_crash_shows_the_end_of_the_log(tmp_path: Path, script: Path) -> None:
    script.write_text("raise MemoryError('CUDA out of memory')")
    reason = result_of(tmp_path).reason
    assert reason is not None
    assert reason.startswith("exit code 1")
    assert reason.endswith("MemoryError: CUDA out of memory")


def test_an_earlier_result_does_not_hide_a_crash(tmp_path: Path, script: Path) -> None:
    (tmp_path / "engine.json").write_text('{"a": 1}')
    script.write_text("raise SystemExit(3)")
    assert "exit code 3" in str(result_of(tmp_path).reason)


def test_figures_count_though_the_step_does_not_end(tmp_path: Path, script: Path) -> None:
    script.write_text(
        "import pathlib, sys, threading\n"
        "pathlib.Path(sys.argv[2]).write_text('{\"a\": 1}')\n"
        "threading.Event().wait(600)\n"
    )
    assert result_of(tmp_path, limit_seconds=5).figures == {"a": 1}


def test_a_step_that_hangs_ends_at_its_limit_with_its_children(tmp_path: Path, script: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = (
        f"pipe = open({str(pipe)!r}, 'wb', buffering=0); pipe.write(b'started')\n"
        "import threading; threading.Event().wait(600)"
    )
    script.write_text(
        "import subprocess, sys, threading\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "threading.Event().wait(600)\n"
    )
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        result = result_of(tmp_path, limit_seconds=5)
        assert "not done after 5 s" in str(result.reason)
        assert _read_to_end(reader) in (b"started", b"")  # nothing if a busy machine starts the child too late
    finally:
        os.close(reader)


def test_every_step_can_be_skipped_or_run_alone() -> None:
    names = [step.name for step in planned_steps(parse([]))]
    assert names == [*ENGINE_STEPS, JOB_STEP]
    for name in names:
        assert [step.name for step in planned_steps(parse(["--only", name]))] == [name]
        assert name not in [step.name for step in planned_steps(parse(["--skip", name]))]


def test_all_steps_together_take_ten_minutes_at_most() -> None:
    assert sum(step.limit_seconds for step in planned_steps(parse([]))) <= 600


def _read_to_end(reader: int) -> bytes:
    """Read a pipe until no process holds its other end; pytest's time limit bounds the wait."""
    os.set_blocking(reader, True)
    return b"".join(iter(lambda: os.read(reader, 1024), b""))
