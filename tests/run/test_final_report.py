"""The report of a finished run cannot fail it."""

from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.run import final_report
from corpus_reranker.run.final_report import write_final_report
from helpers.runs import config


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(143)])
def test_an_error_or_a_signal_during_the_report_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(IsolatedProcess, "run_within", fail)
    lines: list[str] = []
    with IsolatedProcess() as isolated:
        write_final_report(config(tmp_path), isolated, lines.append)
    assert [line.partition(": ")[0] for line in lines] == ["cannot write the report; try `corpus-reranker report`"]


def test_a_report_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final_report, "TIMEOUT_SECONDS", 0.01)
    lines: list[str] = []
    with IsolatedProcess() as isolated:
        write_final_report(config(tmp_path), isolated, lines.append)
    assert "has not returned" in lines[0]
