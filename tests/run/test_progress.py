"""Progress lines never show more queries than the input has, or a negative time."""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.run.progress import ProgressReporter, compute_progress, progress_line
from corpus_reranker.run.stats import ReplicaSnapshot, StatsSnapshot

REPORT = ReplicaReport(ReplicaId("actor-1", "host:1"), 4, 5, 6)


def snapshot(at: float = 0.0, **counts: int) -> StatsSnapshot:
    return StatsSnapshot(Counter(counts), (ReplicaSnapshot(REPORT, at, Counter(counts)),), at=at)


def test_rates_are_computed_between_the_first_and_the_last_snapshot() -> None:
    before = snapshot(0.0, queries_complete=10, completions=90, output_tokens=1000)
    after = snapshot(20.0, queries_complete=20, completions=180, output_tokens=3000, windows_no_answer=2)
    progress = compute_progress([(100.0, before), (120.0, after)], total=200, done_before=30)
    assert (progress.done, progress.queries_per_second) == (50, 0.5)
    assert (progress.windows_per_second, progress.output_tokens_per_second) == (4.5, 100.0)
    assert progress.windows_unanswered == 2
    (replica,) = progress.replicas
    assert (replica.replica, replica.windows_per_second, replica.windows_in_flight) == ("host:1", 4.5, 5)
    assert "50/200 queries | 1 replica, 5 windows in flight | 4.5 windows/s" in progress_line(progress)
    progress = compute_progress([(100.0, before), (120.0, after)], total=200, done_before=30, reused=25)
    assert progress_line(progress).startswith("50/200 queries, 25 of them reused | ")


def test_replicas_hold_their_gpus_while_the_stats_actor_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[StatsSnapshot | Exception] = iter([snapshot(10.0), TimeoutError()])

    def get(*_: Any, **__: Any) -> StatsSnapshot:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    monkeypatch.setattr("corpus_reranker.run.progress.ray.get", get)
    ledger, lines = Mock(total=None, max_cost=None), list[str]()
    reporter = ProgressReporter(Mock(), 100, 0, 1.0, lines.append, Mock(), ledger=ledger)
    reporter._report()
    reporter._report()
    first, second = (call.args[0] for call in ledger.update.call_args_list)
    assert second.replicas == first.replicas
    assert second.counts == first.counts
    assert second.at > first.at == 10.0
    assert lines[-1] == "cannot read the progress: TimeoutError"


def eta(requests: int, total: int = 100, **counts: int) -> float | None:
    """ETA after 10 seconds with this number of requests; `REPORT` has 4 queries in flight."""
    history = [(0.0, snapshot()), (10.0, snapshot(10.0, requests=requests, **counts))]
    return compute_progress(history, total=total, done_before=0).eta_seconds


def test_the_eta_is_known_before_the_first_query_is_finished() -> None:
    planned = {"admitted_queries": 4, "planned_requests": 36}
    assert eta(0, **planned) is None
    assert eta(9, **planned) == pytest.approx((100 * 9 - 9) / 0.9)
    assert eta(18, **planned) == pytest.approx((100 * 9 - 18) / 1.8)
    assert eta(9) is None  # before the first report that counts admitted queries


def test_the_eta_counts_the_requests_of_remaining_queries_alone() -> None:
    finished = {"queries_complete": 96, "admitted_queries": 100, "finished_requests": 96 * 10}
    planned = {"planned_requests": 100 * 10}
    assert eta(960, **finished, **planned) == pytest.approx(40 / 96)
    assert eta(980, **finished, **planned) == pytest.approx(20 / 98)
    assert eta(5000, **finished, **planned) == 0.0  # never negative
    assert eta(960, total=96, **finished, **planned) == 0.0


def test_requests_of_a_lost_replica_do_not_shorten_the_eta_of_queries_not_in_flight() -> None:
    assert eta(500, admitted_queries=50, planned_requests=450) == pytest.approx((100 - 4) * 9 / 50)


@pytest.mark.parametrize("finished_twice", [1, 16])
def test_queries_finished_twice_are_not_counted_beyond_the_total(finished_twice: int) -> None:
    history = [(0.0, snapshot()), (10.0, snapshot(10.0, queries_complete=24 + finished_twice))]
    line = progress_line(compute_progress(history, total=24, done_before=0))
    assert line.startswith("24/24 queries")
    assert line.endswith("ETA 0:00:00")


def test_a_restarted_stats_actor_gives_no_negative_rate() -> None:
    history = [(0.0, snapshot(queries_complete=10, completions=90)), (10.0, snapshot(10.0, completions=9))]
    progress = compute_progress(history, total=24, done_before=0)
    assert progress.windows_per_second == progress.queries_per_second == 0.0
    assert progress.eta_seconds is None


def test_the_line_distinguishes_reporting_and_silent_replicas() -> None:
    silent = ReplicaSnapshot(ReplicaReport(ReplicaId("actor-2", "host:2")), 0.0)
    starting = (ReplicaId("actor-3", "host:3"),)
    current = StatsSnapshot(Counter(), (ReplicaSnapshot(REPORT, 100.0), silent), starting=starting, at=100.0)
    line = progress_line(compute_progress([(0.0, current)], total=24, done_before=0))
    assert " | 1 replica and 1 silent and 1 starting, 5 windows in flight" in line


def test_the_line_shows_failures_of_the_cache() -> None:
    history = [(0.0, StatsSnapshot(Counter(cache_failures=2), (ReplicaSnapshot(REPORT, 100.0),), at=100.0))]
    assert ", 0 failed queries, 2 cache failures | ETA" in progress_line(compute_progress(history, 24, 0))


def test_replicas_that_ended_after_the_last_query_are_not_silent() -> None:
    ended = ReplicaSnapshot(ReplicaReport(ReplicaId("actor-2", "host:2")), 0.0)
    current = StatsSnapshot(Counter(queries_complete=24), (ended,), at=100.0)
    assert compute_progress([(0.0, current)], total=24, done_before=0).replicas_silent == 0
    assert compute_progress([(0.0, current)], total=25, done_before=0).replicas_silent == 1


@pytest.mark.parametrize(("starting", "expected"), [((REPORT.replica,), "1 starting"), ((), "none has a node")])
def test_a_run_without_a_replica_reports_whether_one_has_a_node(starting: tuple[ReplicaId, ...], expected: str) -> None:
    current = StatsSnapshot(starting=starting)
    line = progress_line(compute_progress([(0.0, current)], total=24, done_before=0))
    assert line == f"0/24 queries | no replica yet: {expected}"
