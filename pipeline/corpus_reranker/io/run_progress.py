"""What a live run last said of itself: one small control object, replaced every few seconds."""

import dataclasses
import json
from dataclasses import dataclass, field

from corpus_reranker.io.object_store import ObjectStore

PROGRESS = "_run/progress.json"


@dataclass(frozen=True, slots=True)
class ReplicaProgress:
    """One replica. `seconds_since_report` grows while it is lost or its engine is dead."""

    replica: str
    seconds_since_report: float
    queries_in_flight: int
    windows_in_flight: int
    target_windows_in_flight: int
    windows_per_second: float
    output_tokens_per_second: float


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a run stood when it was written. Rates are of the last minute, counts of this start of the run.

    `counts` has queries_STATUS, windows_STATUS, completions, completions_recalled, prompt_tokens, output_tokens,
    engine_deaths and journal_failures.
    """

    queries: int
    done: int
    queries_per_second: float = 0.0
    windows_per_second: float = 0.0
    output_tokens_per_second: float = 0.0
    eta_seconds: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    replicas: tuple[ReplicaProgress, ...] = ()
    recent_errors: tuple[str, ...] = ()

    @property
    def windows_in_flight(self) -> int:
        return sum(replica.windows_in_flight for replica in self.replicas)

    @property
    def target_windows_in_flight(self) -> int:
        """In flight where every replica's engine is full."""
        return sum(replica.target_windows_in_flight for replica in self.replicas)

    @property
    def windows_unanswered(self) -> int:
        done = sum(count for name, count in self.counts.items() if name.startswith("windows_"))
        return done - self.counts.get("windows_complete", 0) - self.counts.get("windows_repaired", 0)


def write_progress(control: ObjectStore, progress: RunProgress) -> None:
    """Replace what was said before. Raises OutputError where the store cannot be reached."""
    control.write(PROGRESS, json.dumps(dataclasses.asdict(progress)).encode())


def read_progress(control: ObjectStore) -> tuple[RunProgress, float] | None:
    """What was last written and its age in seconds by the store's clock.

    None where there is nothing, or what is there is not of this program's version.
    """
    stored = control.read(PROGRESS)
    if stored is None:
        return None
    try:
        data = json.loads(stored.body)
        replicas = tuple(ReplicaProgress(**each) for each in data.pop("replicas"))
        errors = tuple(data.pop("recent_errors"))
        return RunProgress(**data, replicas=replicas, recent_errors=errors), stored.age_seconds
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def duration(seconds: float | None) -> str:
    """h:mm:ss, or a question mark."""
    if seconds is None:
        return "?"
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"
