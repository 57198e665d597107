"""Reader of the scripted engine's request log, which may still grow."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

_QUERY = re.compile(r"what is (q\d+)")


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """One line of the log.

    Attributes:
        event: "requested" or "completed".
        seconds: The value of `time.time()`.
        process: Process id of the replica.
    """

    event: str
    seconds: float
    prompt: str
    process: int

    @property
    def query_id(self) -> str:
        """The query id, which helpers/scenario.py puts into every prompt."""
        return str(_QUERY.findall(self.prompt)[0])


class RequestLog:
    """The requests of all runs of a scenario, in the order of the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._request_counts: Counter[str] = Counter()
        self.events: list[RequestEvent] = []

    def read(self) -> "RequestLog":
        """Read the lines that were written since the last call."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
            complete = new[: new.rfind(b"\n") + 1]
            self._read_bytes += len(complete)
            events = [RequestEvent(**json.loads(line)) for line in complete.splitlines()]
            self._request_counts.update(event.prompt for event in events if event.event == "requested")
            self.events += events
        return self

    @property
    def requested(self) -> int:
        """Requests, repetitions included."""
        return self._request_counts.total()

    @property
    def distinct(self) -> int:
        """Distinct windows that were requested."""
        return len(self._request_counts)

    @property
    def requested_again(self) -> int:
        """Repeated requests: each request of a window after its first."""
        return self.requested - self.distinct

    def processes(self, since: float = 0.0) -> list[int]:
        """Ids of the processes that sent a request, in the order of their first request."""
        return list(dict.fromkeys(event.process for event in self.events if event.seconds >= since))

    def unfinished(self, until: float, windows_per_query: int) -> int:
        """Windows requested until a time that belong to queries with incomplete windows at that time."""
        completed: defaultdict[str, set[str]] = defaultdict(set)
        requested: defaultdict[str, set[str]] = defaultdict(set)
        for event in self.events:
            if event.seconds <= until:
                (requested if event.event == "requested" else completed)[event.query_id].add(event.prompt)
        return sum(
            len(prompts) for query_id, prompts in requested.items() if len(completed[query_id]) < windows_per_query
        )

    def in_flight(self, at: float, max_window_seconds: float) -> int:
        """Windows in flight at a time. A window older than `max_window_seconds` died with its replica."""
        recent = [event for event in self.events if at - max_window_seconds <= event.seconds <= at]
        requested, completed = (
            {event.prompt for event in recent if event.event == kind} for kind in ("requested", "completed")
        )
        return len(requested - completed)

    def first_request_after(self, seconds: float, *, by_new_process: bool) -> float | None:
        """Time of the first request after `seconds`; with `by_new_process`, by a process without earlier requests."""
        known = {event.process for event in self.events if event.seconds <= seconds} if by_new_process else set()
        times = (
            event.seconds
            for event in self.events
            if event.event == "requested" and event.seconds > seconds and event.process not in known
        )
        return min(times, default=None)
