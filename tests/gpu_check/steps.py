"""Steps of the check: each a process of its own with a time limit, so that none can end or hang the others."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAST_LINES = 400
"""Characters of a failed step's log that its reason holds."""


@dataclass(frozen=True, slots=True)
class Step:
    """A module of this package that writes its result to a JSON file, with its arguments and its time limit."""

    name: str
    module: str
    arguments: tuple[str, ...]
    limit_seconds: float
    max_num_batched_tokens: int | None = None
    fp8_weights: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step: its figures, or the reason why there are none."""

    step: Step
    figures: Mapping[str, Any] | None = None
    reason: str | None = None


def write_result(file: Path, figures: Mapping[str, Any]) -> None:
    """Write a step's figures, or {"reason": ...}. The file is complete as soon as it is there."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(figures), encoding="utf-8")
    partial.replace(file)


def run_step(step: Step, folder: Path, environment: Mapping[str, str]) -> StepResult:
    """Run a step to its end, or to its limit; nothing that it started outlives it.

    Args:
        step: What to run.
        folder: Where its log (NAME.log) and its result (NAME.json) go.
        environment: Environment variables of the step's process.
    """
    result, log = folder / f"{step.name}.json", folder / f"{step.name}.log"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"gpu_check.{step.module}", *step.arguments, str(result)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )
        try:
            code: int | None = process.wait(step.limit_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    return _read(step, result, log, code)


def _read(step: Step, result: Path, log: Path, code: int | None) -> StepResult:
    if not result.exists():  # a step whose result is there and that only ends slowly has not failed
        why = f"not done after {step.limit_seconds:.0f} s" if code is None else f"exit code {code}"
        return StepResult(step, reason=f"{why}; {_last_lines(log)}")
    figures = json.loads(result.read_text(encoding="utf-8"))
    if reason := figures.get("reason"):
        return StepResult(step, reason=reason)
    return StepResult(step, figures)


def _last_lines(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return f"log {log}: {text[-_LAST_LINES:]}" if text else f"log {log} is empty"


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill the step and its children, which are in one process group unless they left it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
