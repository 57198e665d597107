"""The compaction of the completion store after a finished run cannot fail it."""

from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.run.compaction import compact_completions
from helpers.runs import config


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(143)])
def test_an_error_or_a_signal_during_compaction_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(IsolatedProcess, "run_within", fail)
    lines: list[str] = []
    with IsolatedProcess() as isolated:
        compact_completions(config(tmp_path, f"--cache.path={tmp_path}/cache"), isolated, lines.append)
    assert lines == [f"warning: cannot compact {tmp_path}/cache: {type(error).__name__}: {error}"]
