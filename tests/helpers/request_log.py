"""The scripted engine's log of requests, read while it grows."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

_QUERY = re.compile(r"what is (q\d+)")


@dataclass(frozen=True, slots=True)
class Request:
    """`event` is "requested" or "completed", `seconds` a time as time.time() gives it, `process` the replica's id."""

    event: str
    seconds: float
    prompt: str
    process: int

    @property
    def query(self) -> str:
        """The query's id, which scene.py puts into every prompt."""
        return str(_QUERY.findall(self.prompt)[0])


class RequestLog:
    """All requests of all runs of a scene, in the order they were written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._times_asked: Counter[str] = Counter()
        self.requests: list[Request] = []

    def read(self) -> "RequestLog":
        """Take in what was written since."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            requests = [Request(**json.loads(line)) for line in whole.splitlines()]
            self._times_asked.update(request.prompt for request in requests if request.event == "requested")
            self.requests += requests
        return self

    @property
    def requested(self) -> int:
        return self._times_asked.total()

    @property
    def different(self) -> int:
        """Windows asked, each counted once."""
        return len(self._times_asked)

    @property
    def asked_twice(self) -> int:
        """Windows asked again, each as often as it was."""
        return self.requested - self.different

    def processes(self, since: float = 0.0) -> list[int]:
        """Ids of the processes that asked anything, the latest last."""
        return list(dict.fromkeys(request.process for request in self.requests if request.seconds >= since))

    def unfinished(self, until: float, windows_per_query: int) -> int:
        """Windows asked by a time of queries that had not all their windows answered by then."""
        answered: defaultdict[str, set[str]] = defaultdict(set)
        requested: defaultdict[str, set[str]] = defaultdict(set)
        for request in self.requests:
            if request.seconds <= until:
                (requested if request.event == "requested" else answered)[request.query].add(request.prompt)
        return sum(len(requested[query]) for query in requested if len(answered[query]) < windows_per_query)

    def in_flight(self, at: float, longest_seconds: float) -> int:
        """Windows that were being answered. One asked longer ago than any takes died with its replica."""
        recent = [request for request in self.requests if at - longest_seconds <= request.seconds <= at]
        requested, answered = (
            {each.prompt for each in recent if each.event == event} for event in ("requested", "completed")
        )
        return len(requested - answered)

    def first_asked_after(self, seconds: float, *, by_new_process: bool) -> float | None:
        """When the first window after `seconds` was asked; of a process that had asked none before, if so wanted."""
        known = (
            {request.process for request in self.requests if request.seconds <= seconds} if by_new_process else set()
        )
        times = (
            request.seconds
            for request in self.requests
            if request.event == "requested" and request.seconds > seconds and request.process not in known
        )
        return min(times, default=None)
