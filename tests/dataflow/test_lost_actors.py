"""A run whose stats actor and coordinator are killed gives the same result as an undisturbed run."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from corpus_reranker.dataflow.poison_query import DeathRecord
from corpus_reranker.run import passes
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

    def deaths(self, query_id: str) -> int:
        """Deaths of processes at which an unfinished query was in flight."""
        records: dict[str, DeathRecord] = ray.get(self.handles["coordinator"].death_records.remote())
        return records[query_id].deaths if query_id in records else 0


def kill_after_each_death(actors: Actors, killed: list[int], finished: threading.Event) -> None:
    """Kill both actors once when their run starts, and once whenever the poison query has killed one more engine."""
    actors.started.wait()
    while not finished.wait(POLL_SECONDS):
        with contextlib.suppress(RayError):  # the run ends, and the coordinator with it
            deaths = actors.deaths("q0006")
            if deaths >= len(killed):
                for handle in actors.handles.values():
                    ray.kill(handle, no_restart=False)
                killed.append(deaths)


def test_a_poison_query_is_isolated_although_the_actors_are_killed_repeatedly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [query(number) for number in range(10)]
    write_input(tmp_path / "in", rows)
    settings = config(tmp_path, "--engine.die={q0006: 1}")
    actors, killed, finished = Actors(monkeypatch), list[int](), threading.Event()
    killer = threading.Thread(target=kill_after_each_death, args=(actors, killed, finished))
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
