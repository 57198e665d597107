"""A run that fails for a transient reason is started again, as long as it makes progress."""

from collections.abc import Iterator

import pytest

from corpus_reranker.errors import (
    ConfigError,
    InputError,
    OutputConflictError,
    OutputError,
    OutputHeldError,
    RunError,
    TransientRunError,
)
from corpus_reranker.run import restarts
from corpus_reranker.run.restarts import Attempt, run_with_restarts

UNAVAILABLE = TransientRunError("the store is unavailable\nadvice")


class Runs:
    """Attempts that fail with scripted errors, and then succeed. `done` are the finished queries of each attempt."""

    def __init__(self, *errors: Exception, done: Iterator[int] | None = None, running: bool = True) -> None:
        self._errors = list(errors)
        self._done = done or iter([])
        self._running = running
        self.states: list[Attempt] = []

    def __call__(self, state: Attempt) -> str:
        self.states.append(state)
        done = next(self._done, None)
        if done is not None:
            state.done, state.prepared, state.running = done, True, self._running
        if self._errors:
            raise self._errors.pop(0)
        return "done"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time."""
    seconds: list[float] = []
    monkeypatch.setattr("corpus_reranker.run.restarts.time.sleep", seconds.append)
    monkeypatch.setattr("corpus_reranker.run.restarts.ray.is_initialized", lambda: True)
    return seconds


def test_restarts_are_delayed_longer_each_time(waits: list[float]) -> None:
    lines: list[str] = []
    runs = Runs(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE)
    assert run_with_restarts(runs, 3, lines.append) == "done"
    assert waits == [10.0, 20.0, 40.0]
    assert lines[0].startswith("the store is unavailable; restart 1 of at most 3")
    assert [state.restarts for state in runs.states] == [0, 1, 2, 3]


def test_a_run_without_progress_ends_with_its_error(waits: list[float]) -> None:
    with pytest.raises(TransientRunError, match="the store is unavailable"):
        run_with_restarts(Runs(*[UNAVAILABLE] * 9, done=iter([5] * 9)), 3, lambda line: None)
    assert len(waits) == 3


def test_progress_begins_the_count_again(waits: list[float]) -> None:
    lines: list[str] = []
    runs = Runs(*[UNAVAILABLE] * 12, done=iter(range(13)))
    assert run_with_restarts(runs, 2, lines.append) == "done"
    assert len(waits) == 12
    assert max(waits) == 10.0
    assert lines[-1] == "the store is unavailable; restart after progress, in 10 s"


def test_a_run_with_progress_is_not_started_without_bound(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_MAX_RESTARTS", 4)
    with pytest.raises(TransientRunError):
        run_with_restarts(Runs(*[UNAVAILABLE] * 12, done=iter(range(13))), 2, lambda line: None)
    assert len(waits) == 4


@pytest.mark.parametrize("error", [RunError("no such GPU"), InputError("no file"), OSError("no file")])
def test_an_error_that_a_user_must_fix_ends_the_run_at_once(waits: list[float], error: Exception) -> None:
    with pytest.raises(type(error)):
        run_with_restarts(Runs(error), 3, lambda line: None)
    assert waits == []


@pytest.mark.parametrize("error", [InputError("cannot read"), OSError("cannot read"), RunError("no cluster")])
def test_a_run_waits_for_a_store_that_is_unavailable_at_a_restart(waits: list[float], error: Exception) -> None:
    assert run_with_restarts(Runs(UNAVAILABLE, error, error), 3, lambda line: None) == "done"
    assert len(waits) == 3


def test_a_run_waits_for_a_store_that_is_unavailable_at_its_end(waits: list[float]) -> None:
    error = OutputError("cannot use the output")
    error.__cause__ = OSError("AWS Error NETWORK_CONNECTION during PutObject operation")
    with pytest.raises(OutputError):
        run_with_restarts(Runs(error), 3, lambda line: None)  # at the start, a person must look at it
    assert waits == []
    assert run_with_restarts(Runs(error, done=iter([4])), 3, lambda line: None) == "done"


@pytest.mark.parametrize(
    "error", [OutputHeldError("another run"), OutputConflictError("other settings"), ConfigError("no such key")]
)
def test_a_restarted_run_ends_if_another_one_has_the_output(waits: list[float], error: Exception) -> None:
    with pytest.raises(type(error)):
        run_with_restarts(Runs(UNAVAILABLE, error), 3, lambda line: None)
    assert len(waits) == 1


def test_a_later_attempt_gets_the_state_of_the_earlier_ones(waits: list[float]) -> None:
    runs = Runs(UNAVAILABLE, UNAVAILABLE, done=iter([4]))
    run_with_restarts(runs, 3, lambda line: None)
    assert [(state.prepared, state.done) for state in runs.states[1:]] == [(True, 4), (True, 4)]
