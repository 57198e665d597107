"""A run whose stats actor and coordinator are killed gives the same result as an undisturbed run."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from corpus_reranker.run import passes
from helpers.request_log import RequestLog
from helpers.runs import check_ranking, config, query, rerank, rows_of, write_input

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

POLL_SECONDS = 0.1

Start = Callable[..., contextlib.AbstractContextManager[Any]]


class Actors:
    """Handles of the run's actors, recorded when the run starts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handles: dict[str, Any] = {}
        self.started = threading.Event()
        for name in ("stats_actor", "coordinator"):
            monkeypatch.setattr(passes, f"running_{name}", self._recording(name, getattr(passes, f"running_{name}")))

    def _recording(self, name: str, start: Start) -> Start:
        @contextlib.contextmanager
        def recorded(*arguments: Any) -> Iterator[Any]:
            with start(*arguments) as handle:
                self.handles[name] = handle
                if len(self.handles) == 2:
                    self.started.set()
                yield handle

        return recorded

    def kill(self) -> None:
        for handle in self.handles.values():
            ray.kill(handle, no_restart=False)


def kill_after_each_death(actors: Actors, log: RequestLog, killed: list[int], finished: threading.Event) -> None:
    """Kill both actors once when their run starts, and once whenever the poison query has killed one more engine."""
    actors.started.wait()
    while not finished.wait(POLL_SECONDS):
        deaths = len({event.process for event in log.read().events if event.query_id == "q0006"})
        if deaths >= len(killed):
            actors.kill()
            killed.append(deaths)


def test_a_poison_query_is_isolated_although_the_actors_are_killed_repeatedly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [query(number) for number in range(10)]
    write_input(tmp_path / "in", rows)
    settings = config(tmp_path, "--engine.die={q0006: 1}", f"--engine.log_path={tmp_path}/requests.jsonl")
    log = RequestLog(tmp_path / "requests.jsonl")
    actors, killed, finished = Actors(monkeypatch), list[int](), threading.Event()
    killer = threading.Thread(target=kill_after_each_death, args=(actors, log, killed, finished))
    killer.start()
    try:
        manifest, _ = rerank(settings)
    finally:
        finished.set()
        actors.started.set()
        killer.join()
    assert killed[:2] == [0, 1]
    assert manifest["queries_by_status"] == {"complete": 9, "failed": 1}
    rows_by_id = rows_of(settings)
    assert "the last 3 times with no other query" in rows_by_id["q0006"]["error"]
    for row in rows:
        check_ranking(rows_by_id[row["query_id"]], row)
