"""Neither the report nor the compaction of the completion store can fail a finished run."""

from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.run import finished_run
from corpus_reranker.run.finished_run import compact_completions, write_final_report
from helpers.runs import config


@pytest.fixture(params=[OSError("disk full"), KeyboardInterrupt(), SystemExit(143)], ids=["error", "Ctrl-C", "SIGTERM"])
def error(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BaseException:
    """An error or a signal during the work of the subprocess."""
    raised: BaseException = request.param

    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(IsolatedProcess, "run_within", fail)
    return raised


def test_an_error_or_a_signal_during_the_report_is_logged(tmp_path: Path, error: BaseException) -> None:
    lines: list[str] = []
    with IsolatedProcess() as isolated:
        write_final_report(config(tmp_path), isolated, lines.append)
    reason = f"{type(error).__name__}: {error}"
    assert lines == [f"cannot write the report; try `corpus-reranker report`: {reason}"]


def test_an_error_or_a_signal_during_the_compaction_is_logged(tmp_path: Path, error: BaseException) -> None:
    lines: list[str] = []
    with IsolatedProcess() as isolated:
        compact_completions(config(tmp_path, f"--cache.path={tmp_path}/cache"), isolated, lines.append)
    assert lines == [f"warning: cannot compact {tmp_path}/cache: {type(error).__name__}: {error}"]


def test_a_report_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished_run, "_TIMEOUT_SECONDS", 0.01)
    lines: list[str] = []
    with IsolatedProcess() as isolated:
        write_final_report(config(tmp_path), isolated, lines.append)
    assert "has not returned" in lines[0]
