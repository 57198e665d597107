"""Progress of a live run in its output folder: one small object, replaced every few seconds.

Each start of a run has its own object, so that a driver that was paused past its lease does not overwrite another.
"""

import dataclasses
import json
from dataclasses import dataclass, field

from corpus_reranker.io.object_store import ObjectStore
from corpus_reranker.io.sinks.layout import progress_name
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.spend import Spend
from corpus_reranker.types import count_unanswered

SILENT_SECONDS = 10.0
"""A replica without a report for longer than this is silent. A live replica reports every second."""


@dataclass(frozen=True, slots=True)
class ReplicaProgress:
    """Progress of one replica. `seconds_since_report` grows after the replica is lost."""

    replica: str
    seconds_since_report: float
    queries_in_flight: int
    windows_in_flight: int
    target_windows_in_flight: int
    windows_per_second: float
    output_tokens_per_second: float


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run at one time. Rates are means over the last minute; counts begin again with each pass.

    `done` includes the `reused` queries, whose rows come from earlier outputs. `eta_seconds` is computed from requests,
    so it is known before the first query is finished.

    `counts` has queries_STATUS, windows_STATUS, answers_FLAG, admitted_queries, planned_requests, requests,
    finished_requests, completions, cache_hits, cache_failures, prompt_tokens, output_tokens, pre_ranker_failures and
    engine_deaths, and the engine's own counts; a count of zero may be absent. `spend` is the sum over all starts of the
    run, and `max_cost` is the limit on it.
    """

    queries: int
    done: int
    reused: int = 0
    queries_per_second: float = 0.0
    windows_per_second: float = 0.0
    output_tokens_per_second: float = 0.0
    eta_seconds: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    replicas: tuple[ReplicaProgress, ...] = ()
    replicas_starting: int = 0
    recent_errors: tuple[str, ...] = ()
    spend: Spend | None = None
    max_cost: float | None = None

    @property
    def replicas_silent(self) -> int:
        """Replicas whose last report is old: their processes died or hang. 0 after the last query."""
        if self.done >= self.queries:
            return 0
        return sum(replica.seconds_since_report > SILENT_SECONDS for replica in self.replicas)

    @property
    def windows_in_flight(self) -> int:
        return sum(replica.windows_in_flight for replica in self.replicas)

    @property
    def target_windows_in_flight(self) -> int:
        """Number of windows in flight at which every replica's engine is full."""
        return sum(replica.target_windows_in_flight for replica in self.replicas)

    @property
    def windows_unanswered(self) -> int:
        """Windows that kept their input order because no usable answer came."""
        prefix = "windows_"
        counts = {name.removeprefix(prefix): n for name, n in self.counts.items() if name.startswith(prefix)}
        return count_unanswered(counts)


def write_progress(control: ObjectStore, run: RunRecord, progress: RunProgress) -> None:
    """Replace the stored progress of this start of the run. Raises OutputError if the store cannot be reached."""
    control.write(progress_name(run.run_id, run.starts), json.dumps(dataclasses.asdict(progress)).encode())


def read_progress(control: ObjectStore, run: RunRecord) -> tuple[RunProgress, float] | None:
    """Read the stored progress of the last start of the run, and its age in seconds by the store's clock.

    None if there is none, or another version of this program wrote it.
    """
    stored = control.read(progress_name(run.run_id, run.starts))
    if stored is None:
        return None
    try:
        data = json.loads(stored.body)
        replicas = tuple(ReplicaProgress(**each) for each in data.pop("replicas"))
        errors = tuple(data.pop("recent_errors"))
        spend = data.pop("spend", None)
        spend = spend and Spend(**spend)
        return RunProgress(**data, replicas=replicas, recent_errors=errors, spend=spend), stored.age_seconds()
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
