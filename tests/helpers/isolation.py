"""A driver without its subprocess."""

from collections.abc import Callable
from typing import Any

import pytest

from corpus_reranker.io.isolation import IsolatedProcess


def without_subprocess(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the calls of every `IsolatedProcess` in this process. tests/io/test_isolation.py tests the subprocess."""

    def run_within(_: IsolatedProcess, __: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    monkeypatch.setattr(IsolatedProcess, "run_within", run_within)
