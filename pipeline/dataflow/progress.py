"""Progress a person can read, in a terminal as in a log file: one line every few seconds."""

import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle

from pipeline.dataflow.tally import Progress, Tally

_RATE_OVER_SECONDS = 60.0
"""Rates and the time to finish are those of the last minute: the run's mean would still carry the warm-up."""


_SAMPLES_AT_MOST = 1000
"""Of windows in flight over time. Beyond, every second one is dropped, so that a run of days keeps its picture."""


class ProgressLines:
    """Context manager that asks the tally every `every_seconds` and hands `say` a line.

    `total` counts the input's queries, `done_before` those that earlier runs finished.
    """

    def __init__(
        self,
        tally: "ActorHandle[Tally]",
        total: int,
        done_before: int,
        every_seconds: float,
        say: Callable[[str], None],
        publish: Callable[[Progress, int], None] = lambda progress, done: None,
    ) -> None:
        self._tally = tally
        self._total = total
        self._done_before = done_before
        self._every_seconds = every_seconds
        self._say = say
        self._publish = publish
        self._stop = threading.Event()
        self._history: list[tuple[float, Progress]] = []
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._began = time.monotonic()
        self.last = Progress()
        self.in_flight: list[list[float]] = []
        """Seconds since the beginning, windows in flight and windows wanted there, over all replicas."""

    def __enter__(self) -> "ProgressLines":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._tick()

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self._tick()

    def _tick(self) -> None:
        try:
            progress: Progress = ray.get(self._tally.progress.remote(), timeout=5)
        except Exception as error:  # the tally died or the cluster is going away; the run itself will say so
            self._say(f"no progress report: {type(error).__name__}")
            return
        self.last = progress
        now = time.monotonic()
        self._history = [entry for entry in self._history if entry[0] >= now - _RATE_OVER_SECONDS]
        self._history.append((now, progress))
        self._sample(now)
        self._say(self.line())
        self._publish(progress, self._done_before + queries_done(progress))

    def _sample(self, now: float) -> None:
        if not self.last.replicas:
            return
        wanted = sum(replica.windows_wanted for replica in self.last.replicas)
        self.in_flight.append([round(now - self._began, 1), windows_in_flight(self.last), wanted])
        if len(self.in_flight) > _SAMPLES_AT_MOST:
            self.in_flight = self.in_flight[::2]

    def line(self) -> str:
        """One line of where the run stands."""
        if not self.last.replicas:
            return f"{self._done_before:,}/{self._total:,} queries | no replica yet: engines are starting"
        (then, before), (now, current) = self._history[0], self._history[-1]
        seconds = max(now - then, 1e-9)
        done = self._done_before + queries_done(current)
        rate = (queries_done(current) - queries_done(before)) / seconds
        windows = (current.counts["completions"] - before.counts["completions"]) / seconds
        tokens = (current.counts["output_tokens"] - before.counts["output_tokens"]) / seconds
        eta = _duration((self._total - done) / rate) if rate > 0 else "?"
        return (
            f"{done:,}/{self._total:,} queries"
            f" | {len(current.replicas)} replicas, {windows_in_flight(current)} windows in flight"
            f" | {windows:.1f} windows/s, {tokens:,.0f} output tokens/s"
            f" | {current.counts['windows_repaired']:,} repaired, {windows_unanswered(current):,} unanswered windows,"
            f" {current.counts['queries_failed']:,} failed queries"
            f" | ETA {eta}"
        )


def windows_in_flight(progress: Progress) -> int:
    return sum(replica.windows_in_flight for replica in progress.replicas)


def queries_done(progress: Progress) -> int:
    return sum(count for name, count in progress.counts.items() if name.startswith("queries_"))


def windows_done(progress: Progress) -> int:
    return sum(count for name, count in progress.counts.items() if name.startswith("windows_"))


def windows_unanswered(progress: Progress) -> int:
    return windows_done(progress) - progress.counts["windows_complete"] - progress.counts["windows_repaired"]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
